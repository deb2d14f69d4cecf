//! A TCP relay in front of a server, which can be cut and mended.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// What goes through.
#[derive(Default)]
struct Passing {
    is_cut: bool,
    streams: Vec<TcpStream>,
}

impl Passing {
    fn hang_up(&mut self) {
        for stream in self.streams.drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A relay to one server.
pub(crate) struct Tether {
    pub(crate) address: SocketAddr,
    passing: Arc<Mutex<Passing>>,
}

impl Tether {
    /// Listens, and connects to the server for each that comes. The thread ends with the test's process.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let passing = Arc::new(Mutex::new(Passing::default()));
        let shared = Arc::clone(&passing);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let _refused = join(client, server, &shared);
            }
        });
        Self { address, passing }
    }

    /// Ends every connection. Who connects from now on hears nothing.
    pub(crate) fn cut(&self) {
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        passing.is_cut = true;
        passing.hang_up();
    }

    /// Who connects from now on is served; who waits is sent away, to come again.
    pub(crate) fn mend(&self) {
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        passing.is_cut = false;
        passing.hang_up();
    }
}

fn join(client: TcpStream, server: SocketAddr, passing: &Mutex<Passing>) -> io::Result<()> {
    let mut passing = passing.lock().unwrap_or_else(PoisonError::into_inner);
    passing.streams.push(client.try_clone()?);
    if passing.is_cut {
        return Ok(());
    }
    let server = TcpStream::connect(server)?;
    passing.streams.push(server.try_clone()?);
    let ways = [(client.try_clone()?, server.try_clone()?), (server, client)];
    for (from, to) in ways {
        thread::spawn(move || carry(from, to));
    }
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16_384];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
