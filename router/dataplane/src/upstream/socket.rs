//! The socket of a connection to a child, whatever its kind.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dial::{Dial, HttpVersion, Upstream};

pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Socket>>),
}

impl Socket {
    pub(crate) async fn connect(dial: &Dial) -> io::Result<Socket> {
        let tcp = |stream: TcpStream| {
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(Socket::Tcp(stream))
        };
        let socket = match &dial.to {
            Upstream::Tcp(address) => tcp(TcpStream::connect(address).await?)?,
            Upstream::Named(name) => tcp(TcpStream::connect(name).await?)?,
            Upstream::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
        };
        let Some(tls) = &dial.tls else { return Ok(socket) };
        let stream = TlsConnector::from(tls.config(dial.version)).connect(tls.name.clone(), socket).await?;
        match (dial.version, stream.get_ref().1.alpn_protocol()) {
            (HttpVersion::Http2, Some(b"h2")) | (HttpVersion::Http1, Some(b"http/1.1") | None) => {
                Ok(Socket::Tls(Box::new(stream)))
            }
            (HttpVersion::Http1 | HttpVersion::Http2, _) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the other side does not speak this version of HTTP"))
            }
        }
    }

    /// Whether nobody on the way can read along.
    pub(crate) const fn is_secure(&self) -> bool {
        match self {
            Socket::Tls(_) => true,
            Socket::Tcp(_) | Socket::Unix(_) => false,
        }
    }

    /// Whether there is something to read, be it the end, as the kernel knows it this moment.
    pub(crate) fn has_input(&mut self) -> bool {
        let socket = match self {
            Socket::Tcp(stream) => SockRef::from(&*stream),
            Socket::Unix(stream) => SockRef::from(&*stream),
            // What there is may be for TLS alone.
            Socket::Tls(stream) => {
                let mut room = [0];
                let mut cx = Context::from_waker(Waker::noop());
                return Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut room)).is_ready();
            }
        };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
