//! Where requests to a service come from, and what class of work they are.

use router_core::route::RoutePattern;
use supervisor_protocol::{ServiceName, StreamClass};
use versiond_core::catalog::ServiceShape;

use super::{ClassRule, ServiceError};
use crate::config::setting::Source;
use crate::config::{ConfigError, file};

/// First segments on which the data listener answers for the host.
const OWN_PATHS: [&str; 3] = ["healthz", "readyz", "drain"];

pub(super) fn route(text: &str) -> Result<RoutePattern, Box<dyn std::error::Error + Send + Sync>> {
    let pattern = RoutePattern::parse(text)?;
    let first = first_segment(&pattern);
    if OWN_PATHS.iter().any(|own| own.eq_ignore_ascii_case(&first)) {
        return Err(ServiceError::OwnPath(format!("/{first}")).into());
    }
    Ok(pattern)
}

pub(super) fn shape<'r>(routes: impl Iterator<Item = &'r RoutePattern>) -> ServiceShape {
    let mut shape = ServiceShape::Single;
    for route in routes.filter(|route| route.has_version()) {
        let first = first_segment(route) == "{version}";
        shape = match shape {
            ServiceShape::Single => ServiceShape::Versioned { first_segment: first },
            ServiceShape::Versioned { first_segment } => {
                ServiceShape::Versioned { first_segment: first_segment || first }
            }
        };
    }
    shape
}

fn first_segment(pattern: &RoutePattern) -> String {
    pattern.to_string().trim_start_matches('/').split('/').next().unwrap_or_default().to_owned()
}

pub(super) fn class(source: &mut Source<'_>, name: &ServiceName, rule: file::Class) -> Result<ClassRule, ConfigError> {
    let key = |key: &str| format!("service.{name}.class.{key}");
    let (at, class_at) = (rule.pattern.span().start, rule.class.span().start);
    let (pattern, class) = (rule.pattern.into_inner(), rule.class.into_inner());
    let below = pattern.strip_suffix("/*").unwrap_or(&pattern);
    let path = match below.parse::<RoutePattern>() {
        Ok(path) if !below.contains('*') && !path.has_version() => path,
        Ok(_) | Err(_) => return Err(source.refuse(key("match"), pattern, at, ServiceError::Pattern)),
    };
    let Some(found) = stream_class(&class) else {
        return Err(source.refuse(key("class"), class, class_at, ServiceError::Class));
    };
    source.note(format!("service.{name}.class"), format!("{pattern} is {found}"), at);
    Ok(ClassRule { path, class: found })
}

pub(super) fn stream_class(text: &str) -> Option<StreamClass> {
    StreamClass::ALL.into_iter().find(|known| known.as_str() == text)
}
