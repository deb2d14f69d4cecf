//! Connections of the management address: so many at once, and each must get on. Otherwise whoever opens many and says
//! nothing would take the descriptors that calls need.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

use crate::limits;

/// A listener that lets in so many at once.
pub(crate) struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
}

/// A connection that is closed when it asks nothing, or takes nothing of an answer, for a while.
pub(crate) struct Visit {
    stream: TcpStream,
    patience: Duration,
    until: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Door {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self::with(listener, limits::HTTP_CONNECTIONS, limits::HTTP_PATIENCE)
    }

    fn with(listener: TcpListener, connections: usize, patience: Duration) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(connections)),
            patience,
        }
    }
}

impl Listener for Door {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => {
                    // Without a place it is closed at once: who comes later is told so, not left waiting.
                    if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                        let visit = Visit {
                            stream,
                            patience: self.patience,
                            until: Box::pin(sleep(self.patience)),
                            _place: place,
                        };
                        return (visit, remote);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Visit {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.until.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(_))) {
            // It gets answers, so it asked for them.
            let until = Instant::now() + self.patience;
            self.until.as_mut().reset(until);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
    };

    use axum::{Router, routing::get};

    use super::*;

    /// A server behind such a door, on a thread that ends with the test.
    fn serve(connections: usize, patience: Duration) -> SocketAddr {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let door = Door::with(listener, connections, patience);
                let router = Router::new().route("/", get(|| async { "here" }));
                axum::serve(door, router).await.unwrap();
            });
        });
        told.recv().unwrap()
    }

    fn ask(stream: &mut TcpStream) -> Vec<u8> {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    #[test]
    fn who_does_not_finish_asking_is_sent_away() {
        let server = serve(1, Duration::from_millis(100));
        let mut slow = TcpStream::connect(server).unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
        // Closed, however long that takes.
        assert!(slow.read(&mut [0; 16]).is_ok_and(|length| length == 0));
    }

    #[test]
    fn who_finds_no_place_is_sent_away_and_the_place_is_free_again() {
        let server = serve(1, Duration::from_secs(600));
        let mut first = TcpStream::connect(server).unwrap();
        let mut second = TcpStream::connect(server).unwrap();
        assert!(!second.read(&mut [0; 16]).is_ok_and(|length| length > 0));
        assert!(ask(&mut first).ends_with(b"here"));
        // The first is seen to be gone a little later than it knows.
        for _ in 0..1_000 {
            let mut third = TcpStream::connect(server).unwrap();
            let asked = third.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            if asked.is_ok() && third.read(&mut [0; 16]).is_ok_and(|length| length > 0) {
                return;
            }
        }
        panic!("no place is ever free again");
    }
}
