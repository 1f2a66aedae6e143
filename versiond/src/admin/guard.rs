//! The guard before every route: lets in whom the policy lets in, and keeps a record of every act.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use daemon_kit::bearer;
use supervisor_protocol::events::{Act, Happening};

use super::Admin;
use super::answer::{Code, refuse};
use super::peer::{Access, Caller, Origin, Refused};

pub(super) async fn guard(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(origin): ConnectInfo<Origin>,
    request: Request,
    next: Next,
) -> Response {
    let needed = match *request.method() {
        Method::GET | Method::HEAD => Access::Read,
        _ => Access::Operate,
    };
    let caller = admin.policy.caller(origin, bearer(request.headers()), || child_uids(&admin));
    let asked = format!("{} {}", request.method(), request.uri().path());
    if let Err(refused) = admin.policy.judge(&caller, needed) {
        tracing::warn!(by = %caller, request = asked, "refused at the admin socket: {refused}");
        let (status, code) = match refused {
            Refused::Token => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Refused::Child | Refused::Stranger { .. } | Refused::ReaderActs { .. } | Refused::Unknown => {
                (StatusCode::FORBIDDEN, "forbidden")
            }
        };
        admin.metrics.admin_refused(code);
        return refuse(status, code, refused.to_string());
    }
    let response = next.run(request).await;
    if needed == Access::Operate {
        record(&admin, &caller, asked, &response);
    }
    response
}

/// Only what was let in is kept among the events, so that nobody else can push them out.
fn record(admin: &Admin, caller: &Caller, request: String, response: &Response) {
    let code = response.extensions().get::<Code>().map(|Code(code)| code.clone());
    let status = response.status().as_u16();
    tracing::info!(by = %caller, request, status, code, "act");
    admin.metrics.acted(code.as_deref().unwrap_or("done"));
    let act = Act { by: caller.to_string(), request, status, code };
    admin.board.events().push(Happening::Act(act), admin.clock.now());
}

/// Whose the processes of the generations are.
fn child_uids(admin: &Admin) -> BTreeSet<u32> {
    let pids = admin.board.pids().into_iter();
    pids.filter_map(|pid| std::fs::metadata(format!("/proc/{pid}")).ok()).map(|process| process.uid()).collect()
}
