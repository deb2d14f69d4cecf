//! Accepting connections: a bound on those that are open at once, and TLS as it is configured at that moment.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::limits;

/// What new connections are met with; `None`: plaintext.
pub(crate) type Greeting = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Accepts while fewer than `max` are open. Handshakes go on side by side, so that a slow peer holds up nobody.
pub(super) fn accept(
    listener: TcpListener,
    max: usize,
    greeting: Greeting,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, accepted) = mpsc::channel(1);
    let open = Arc::new(Semaphore::new(max));
    tokio::spawn(async move {
        loop {
            let next = async {
                let permit = Arc::clone(&open).acquire_owned().await;
                (
                    permit.expect("the semaphore is never closed"),
                    listener.accept().await,
                )
            };
            let (permit, stream) = tokio::select! {
                next = next => next,
                () = ready.closed() => return,
            };
            match stream {
                Err(error) => drop(ready.send(Err(error)).await),
                Ok((stream, peer)) => {
                    // Without it a short reply waits for the peer's delayed acknowledgement; failing is no fault.
                    let _ = stream.set_nodelay(true);
                    let (config, ready) = (greeting.borrow().clone(), ready.clone());
                    tokio::spawn(async move {
                        match greet(stream, config).await {
                            Ok(stream) => drop(
                                ready
                                    .send(Ok(Connection {
                                        stream,
                                        _permit: permit,
                                    }))
                                    .await,
                            ),
                            Err(error) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                        }
                    });
                }
            }
        }
    });
    ReceiverStream::new(accepted)
}

async fn greet(stream: TcpStream, config: Option<Arc<ServerConfig>>) -> io::Result<Stream> {
    let Some(config) = config else {
        return Ok(Stream::Plain(stream));
    };
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = timeout(limits::TLS_HANDSHAKE, handshake).await??;
    Ok(Stream::Tls(Box::new(stream)))
}

/// A connection that gives its place back when it is dropped.
pub(super) struct Connection {
    stream: Stream,
    _permit: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    fn read(&mut self) -> Pin<&mut (dyn AsyncRead + Send + Unpin)> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Tls(stream) => Pin::new(stream),
        }
    }

    fn write(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Tls(stream) => Pin::new(stream),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match &self.stream {
            Stream::Plain(stream) => stream.connect_info(),
            Stream::Tls(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.read().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
