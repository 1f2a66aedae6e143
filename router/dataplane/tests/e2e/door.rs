//! How a connection begins: TLS, and what a balancer says of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use router_dataplane::{Listener, PeerRanges, TlsIdentity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::*;
use crate::http2::{Http2, whole};

/// A certificate and its key, in files.
struct Identity {
    folder: tempfile::TempDir,
}

impl Identity {
    fn new() -> Self {
        let identity = Self { folder: tempfile::tempdir().unwrap() };
        identity.renew();
        identity
    }

    /// Writes another certificate for the same name.
    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        std::fs::write(self.certificate(), made.cert.pem()).unwrap();
        std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn read(&self) -> TlsIdentity {
        TlsIdentity::read(&self.certificate(), &self.key()).unwrap()
    }

    /// A client that knows this certificate alone.
    async fn connect(&self, address: SocketAddr, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.certificate()).unwrap()).unwrap();
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        soon(TlsConnector::from(Arc::new(config)).connect("a.example".try_into().unwrap(), stream)).await
    }
}

/// A rig that is reached through TLS too, there.
fn with_tls(identity: &TlsIdentity) -> (Rig, SocketAddr) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (Rig::listening(|_| {}, vec![Listener { socket, tls: Some(identity.clone()) }]), address)
}

const GET: &[u8] = b"GET /devshard/v1/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

async fn exchange(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    stream.write_all(GET).await.unwrap();
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    text
}

/// Answers with the headers that say where a request is from.
async fn origin_of_forwarding() -> SocketAddr {
    origin(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let of = |name: &str| request.headers.get(name).cloned().unwrap_or_default();
            let said = format!("{} {} {}", of("x-forwarded-proto"), of("x-real-ip"), of("forwarded"));
            peer.answer(&said).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn both_versions_are_spoken_through_tls_and_the_child_is_told_so() {
    let identity = Identity::new();
    let (rig, address) = with_tls(&identity.read());
    rig.publish(origin_of_forwarding().await);
    for alpn in [&["http/1.1"][..], &[]] {
        let text = exchange(identity.connect(address, alpn).await.unwrap()).await;
        let said = "https 127.0.0.1 for=127.0.0.1;host=\"a.example\";proto=https";
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with(said), "{text}");
    }
    let stream = identity.connect(address, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = Http2::over(stream).await;
    assert!(whole(client.get("/devshard/v1/x").await).await.unwrap().0.starts_with("https "));
    // Without TLS nothing has changed, next door.
    assert!(rig.get("/devshard/v1/x").await.text().starts_with("http 127.0.0.1"));
}

#[tokio::test]
async fn a_certificate_is_exchanged_under_open_connections_and_a_bad_one_changes_nothing() {
    let identity = Identity::new();
    let tls = identity.read();
    let (rig, address) = with_tls(&tls);
    rig.publish(named("ok").await);
    let mut before = Http2::over(identity.connect(address, &["h2"]).await.unwrap()).await;
    identity.renew();
    identity.connect(address, &["h2"]).await.unwrap_err();
    assert!(tls.refresh().unwrap());
    assert!(!tls.refresh().unwrap());
    assert!(exchange(identity.connect(address, &[]).await.unwrap()).await.ends_with("ok"));
    assert_eq!(before.get("/devshard/v1/x").await.status(), 200);

    let key = std::fs::read(identity.key()).unwrap();
    let cases: [(&str, &[u8], &str); 4] = [
        ("cert.pem", b"", "there is no certificate in it"),
        ("cert.pem", b"-----BEGIN CERTIFICATE-----\n!!\n", "the certificates cannot be read"),
        ("key.pem", b"", "the private key cannot be read"),
        ("cert.pem", &key, "there is no certificate in it"),
    ];
    for (file, bytes, says) in cases {
        let path = identity.folder.path().join(file);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let error = tls.refresh().unwrap_err().to_string();
        assert!(error.starts_with(path.to_str().unwrap()) && error.ends_with(says), "{error}");
        std::fs::write(&path, good).unwrap();
    }
    // The key of another certificate.
    std::fs::copy(Identity::new().key(), identity.key()).unwrap();
    tls.refresh().unwrap_err();
    assert!(exchange(identity.connect(address, &[]).await.unwrap()).await.ends_with("ok"));
    assert_eq!(rig.plane.counters().not_begun, 1);
}

#[tokio::test]
async fn whoever_speaks_no_tls_or_too_slowly_is_let_go() {
    let identity = Identity::new();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let quick = |config: &mut router_dataplane::PlaneConfig| {
        config.limits.head_timeout = std::time::Duration::from_millis(100);
    };
    let rig = Rig::listening(quick, vec![Listener { socket, tls: Some(identity.read()) }]);
    rig.publish(named("ok").await);
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon(plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let _ = soon(silent.read_to_end(&mut answer)).await;
    until("both are counted", || rig.plane.counters().not_begun == 2).await;
    until("both are gone", || rig.plane.counters().connections_now == 0).await;
}

/// The header of a balancer that names this client.
fn header(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[10, 0, 0, 1], &[0x30, 0x39, 0, 80]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &addresses].concat()
}

#[tokio::test]
async fn a_balancer_s_header_says_whose_a_connection_is() {
    let rig = Rig::with(|config| config.proxy_protocol = PeerRanges(vec!["127.0.0.1".parse().unwrap()]));
    rig.publish(origin_of_forwarding().await);
    for pieces in [1, 7, 100] {
        let mut client = rig.client().await;
        let bytes = [header([203, 0, 113, 7]), GET.to_vec()].concat();
        for piece in bytes.chunks(pieces) {
            client.send(piece).await;
        }
        let reply = client.reply().await;
        assert_eq!(reply.text(), "http 203.0.113.7 for=203.0.113.7;host=\"a.example\";proto=http");
        // It is not the balancer that is trusted now.
        assert_eq!(reply.header("versiond-host"), None);
    }
    let mut check = rig.client().await;
    check.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await;
    check.send(GET).await;
    assert!(check.reply().await.text().starts_with("http 127.0.0.1 "));
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&header([203, 0, 113, 8])).await.unwrap();
    let mut http2 = Http2::over(stream).await;
    assert!(whole(http2.get("/devshard/v1/x").await).await.unwrap().0.starts_with("http 203.0.113.8 "));
}

// F54: who may name a client must, and who may not is not listened to.
#[tokio::test]
async fn f54_a_balancer_s_header_is_required_from_it_and_refused_from_others() {
    let rig = Rig::with(|config| {
        config.proxy_protocol = PeerRanges(vec!["127.0.0.1".parse().unwrap()]);
        config.limits.head_timeout = std::time::Duration::from_millis(100);
    });
    rig.publish(named("ok").await);
    for bytes in [GET, b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", &header([1, 1, 1, 1])[..20], b""] {
        let mut client = rig.client().await;
        client.send(bytes).await;
        soon(async { while client.fill().await.is_some() {} }).await;
        assert!(client.buffer.is_empty());
    }
    until("all are counted", || rig.plane.counters().not_begun == 4).await;

    let others = Rig::new();
    others.publish(named("ok").await);
    let mut client = others.client().await;
    client.send([header([203, 0, 113, 7]), GET.to_vec()].concat()).await;
    assert_eq!(client.reply().await.status, 400);
}
