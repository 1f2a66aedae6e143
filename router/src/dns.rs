//! Members by DNS: the addresses of a name, or the services of one (SRV).
//!
//! Must not live here: what follows from an answer (that is `router-core`), and when to ask (that is `discover`).

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use router_core::members::{Address, Listed, Listing};
use router_core::placement::Weight;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Every address of a name (A, AAAA) is a member, on this port.
    Addresses { name: String, port: u16 },
    /// Every target of the lowest priority (SRV) is a member, on its port and with its weight.
    Services { name: String },
}

/// A question, and who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSource {
    pub question: Question,
    /// Instead of the system's own way, which for addresses knows `/etc/hosts` too.
    pub server: Option<SocketAddr>,
}

/// Answers one question over and over. Nothing is kept: who answers keeps what may be kept.
pub(crate) struct Dns {
    question: Question,
    /// `None`: addresses, by the system's own way.
    resolver: Option<TokioResolver>,
}

impl Question {
    /// `name:port`, or the name of a service, which begins with `_`.
    pub(crate) fn parse(text: &str) -> Option<Question> {
        match text.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() => {
                Some(Question::Addresses { name: name.to_owned(), port: port.parse().ok()? })
            }
            None if text.starts_with('_') => Some(Question::Services { name: text.to_owned() }),
            Some(_) | None => None,
        }
    }
}

impl Dns {
    /// # Errors
    /// There is neither a server nor a readable configuration of the system.
    pub(crate) fn new(source: &DnsSource) -> Result<Dns, String> {
        let resolver = match (&source.question, source.server) {
            (Question::Addresses { .. }, None) => None,
            (Question::Services { .. }, None) => Some(TokioResolver::builder_tokio()),
            (_, Some(server)) => {
                Some(Ok(TokioResolver::builder_with_config(only(server), TokioRuntimeProvider::default())))
            }
        };
        let built = resolver.map(|builder| {
            let mut builder = builder?;
            builder.options_mut().cache_size = 0;
            builder.build()
        });
        Ok(Dns { question: source.question.clone(), resolver: built.transpose().map_err(|error| error.to_string())? })
    }

    /// # Errors
    /// In words: there is no answer, or none that is whole.
    pub(crate) async fn ask(&self) -> Result<Listing, String> {
        let listed: Result<Vec<Listed>, String> = match (&self.question, &self.resolver) {
            (Question::Addresses { name, port }, None) => {
                let found = tokio::net::lookup_host((name.as_str(), *port)).await;
                let found = found.map_err(|error| format!("{name}: {error}"))?;
                found.map(|address| listed(address, Weight::DEFAULT)).collect()
            }
            (Question::Addresses { name, port }, Some(resolver)) => {
                let found = addresses(resolver, name).await?;
                found.into_iter().map(|ip| listed(SocketAddr::new(ip, *port), Weight::DEFAULT)).collect()
            }
            (Question::Services { name }, Some(resolver)) => services(resolver, name).await,
            (Question::Services { name }, None) => Err(format!("{name}: no DNS server is known")),
        };
        listed.map(Listing::Resolved)
    }
}

async fn addresses(resolver: &TokioResolver, name: &str) -> Result<Vec<IpAddr>, String> {
    let found = resolver.lookup_ip(name).await.map_err(|error| format!("{name}: {error}"))?;
    Ok(found.iter().collect())
}

/// One target that cannot be resolved spoils the whole: the others would take its keys.
async fn services(resolver: &TokioResolver, name: &str) -> Result<Vec<Listed>, String> {
    let found = resolver.srv_lookup(name).await.map_err(|error| format!("{name}: {error}"))?;
    let services: Vec<_> = found
        .answers()
        .iter()
        .filter_map(|record| if let RData::SRV(service) = &record.data { Some(service) } else { None })
        .collect();
    let lowest = services.iter().map(|service| service.priority).min();
    let mut members = BTreeSet::new();
    for service in services.iter().filter(|service| Some(service.priority) == lowest) {
        for ip in addresses(resolver, &service.target.to_string()).await? {
            members.insert((SocketAddr::new(ip, service.port), service.weight));
        }
    }
    members.into_iter().map(|(address, weight)| listed(address, Weight(weight))).collect()
}

fn listed(address: SocketAddr, weight: Weight) -> Result<Listed, String> {
    let address = Address::new(&address.to_string()).map_err(|error| error.to_string())?;
    Ok(Listed { id: None, address, weight })
}

fn only(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

impl fmt::Display for DnsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.question {
            Question::Addresses { name, port } => write!(f, "the addresses of {name}, port {port}")?,
            Question::Services { name } => write!(f, "the services of {name}")?,
        }
        match self.server {
            Some(server) => write!(f, ", by {server}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, SRV};
    use hickory_resolver::proto::rr::{Name, Record, RecordType};
    use parking_lot::Mutex;
    use tokio::net::UdpSocket;

    use super::*;

    /// What a server of our own says to a name and a type.
    type Zone = Arc<Mutex<Vec<(&'static str, RData)>>>;

    /// A DNS server on a port of its own, for as long as the runtime lives.
    async fn server(zone: &Zone) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, zone) = (socket.local_addr().unwrap(), zone.clone());
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
                let asked = Message::from_vec(&bytes[..length]).unwrap();
                let query = asked.queries[0].clone();
                let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
                let name = |text: &str| Name::from_ascii(text).unwrap();
                for (of, data) in zone.lock().iter() {
                    if name(of) == *query.name() && data.record_type() == query.query_type() {
                        answer.add_answer(Record::from_rdata(name(of), 60, data.clone()));
                    }
                }
                if !zone.lock().iter().any(|(of, _)| name(of) == *query.name()) {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                answer.add_query(query);
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        address
    }

    fn a(ip: &str) -> RData {
        RData::A(A(ip.parse().unwrap()))
    }

    fn service(priority: u16, weight: u16, port: u16, target: &str) -> RData {
        RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(target).unwrap()))
    }

    async fn ask(text: &str, server: Option<SocketAddr>) -> Result<Vec<(String, u16)>, String> {
        let source = DnsSource { question: Question::parse(text).unwrap(), server };
        match Dns::new(&source)?.ask().await? {
            Listing::Resolved(hosts) => {
                let mut hosts: Vec<_> = hosts.iter().map(|host| (host.address.to_string(), host.weight.0)).collect();
                hosts.sort();
                Ok(hosts)
            }
            other @ (Listing::Written(_) | Listing::Failed) => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn services_give_addresses_ports_and_weights_of_the_lowest_priority() {
        let zone = Zone::default();
        let server = server(&zone).await;
        *zone.lock() = vec![
            ("_devshard._tcp.pool.", service(10, 2, 8080, "gpu-1.pool.")),
            ("_devshard._tcp.pool.", service(10, 0, 8081, "gpu-2.pool.")),
            ("_devshard._tcp.pool.", service(20, 1, 8080, "spare.pool.")),
            ("gpu-1.pool.", a("10.0.0.1")),
            ("gpu-2.pool.", a("10.0.0.2")),
            ("spare.pool.", a("10.0.0.3")),
        ];
        let found = ask("_devshard._tcp.pool.", Some(server)).await;
        assert_eq!(found, Ok(vec![("10.0.0.1:8080".to_owned(), 2), ("10.0.0.2:8081".to_owned(), 0)]));
        // What is not whole is no answer: gpu-2 would lose its keys.
        zone.lock().retain(|(name, _)| *name != "gpu-2.pool.");
        assert!(ask("_devshard._tcp.pool.", Some(server)).await.unwrap_err().contains("gpu-2"));
    }

    #[tokio::test]
    async fn f58_addresses_come_from_the_server_that_is_named_and_no_answer_is_an_error() {
        let zone = Zone::default();
        let server = server(&zone).await;
        *zone.lock() = vec![("pool.", a("10.0.0.2")), ("pool.", a("10.0.0.1"))];
        let both = vec![("10.0.0.1:80".to_owned(), 1), ("10.0.0.2:80".to_owned(), 1)];
        assert_eq!(ask("pool.:80", Some(server)).await, Ok(both));
        zone.lock().clear();
        assert!(ask("pool.:80", Some(server)).await.is_err());
    }

    #[tokio::test]
    async fn without_a_server_the_systems_own_way_is_gone() {
        assert!(ask("localhost:8080", None).await.unwrap().contains(&("127.0.0.1:8080".to_owned(), 1)));
        assert!(ask("there.is.no.such.host.invalid:1", None).await.is_err());
    }

    #[test]
    fn a_question_is_a_name_with_a_port_or_a_service() {
        assert_eq!(Question::parse("_a._tcp.b"), Some(Question::Services { name: "_a._tcp.b".to_owned() }));
        assert_eq!(Question::parse("a.b:1"), Some(Question::Addresses { name: "a.b".to_owned(), port: 1 }));
        for wrong in ["a.b", ":1", "a.b:x", ""] {
            assert_eq!(Question::parse(wrong), None, "{wrong}");
        }
        assert_eq!(RecordType::SRV, service(1, 1, 1, "a.").record_type());
    }
}
