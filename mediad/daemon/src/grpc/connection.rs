//! A bound on the connections that are open at once.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::transport::server::{Connected, TcpConnectInfo};

type Acquire = Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>;

/// Accepts while fewer than the bound are open.
pub(super) struct Bounded {
    incoming: TcpListenerStream,
    open: Arc<Semaphore>,
    next: Acquire,
    permit: Option<OwnedSemaphorePermit>,
}

impl Bounded {
    pub(super) fn new(incoming: TcpListenerStream, max: usize) -> Self {
        let open = Arc::new(Semaphore::new(max));
        Self {
            incoming,
            next: acquire(&open),
            open,
            permit: None,
        }
    }
}

fn acquire(open: &Arc<Semaphore>) -> Acquire {
    let open = Arc::clone(open);
    Box::pin(async move { open.acquire_owned().await.expect("the semaphore is never closed") })
}

impl Stream for Bounded {
    type Item = io::Result<Counted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.permit.is_none() {
            self.permit = Some(ready!(self.next.as_mut().poll(cx)));
            self.next = acquire(&self.open);
        }
        let accepted = ready!(Pin::new(&mut self.incoming).poll_next(cx));
        let permit = self.permit.take().expect("taken above");
        Poll::Ready(accepted.map(|stream| {
            stream.map(|stream| {
                // Without it a short reply waits for the peer's delayed acknowledgement; failing is no fault.
                let _ = stream.set_nodelay(true);
                Counted {
                    stream,
                    _permit: permit,
                }
            })
        }))
    }
}

/// A connection that gives its place back when it is dropped.
pub(super) struct Counted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Counted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
