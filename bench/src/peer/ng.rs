//! A client of the ng protocol: `<cookie> <bencoded dictionary>` over UDP, several requests in flight.

use std::collections::VecDeque;
use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::bencode::Value;

/// A request unanswered for so long is sent again under the same cookie.
const RETRY_AFTER: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 6;

/// One exchange after another that belong together, such as offer, answer and delete of one call.
pub(super) trait Dialogue {
    /// The next request after `reply` (none at the start), or `None` when the dialogue is over.
    fn next(&mut self, reply: Option<&Value>) -> anyhow::Result<Option<Value>>;
}

/// A connected client.
#[derive(Debug)]
pub(super) struct NgClient {
    socket: UdpSocket,
    next_cookie: u64,
}

struct InFlight<D> {
    dialogue: D,
    cookie: String,
    request: Vec<u8>,
    sent_at: Instant,
    attempts: u32,
}

impl NgClient {
    pub(super) fn connect(to: SocketAddrV4) -> anyhow::Result<NgClient> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("a socket for ng")?;
        socket.connect(to).with_context(|| format!("ng at {to}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(NgClient {
            socket,
            next_cookie: 1,
        })
    }

    /// Whether the server answers a ping now.
    pub(super) fn ping(&mut self) -> bool {
        let request = Value::dictionary([("command", Value::text("ping"))]);
        let (cookie, bytes) = self.frame(&request);
        let mut buffer = [0u8; 2048];
        self.socket.send(&bytes).is_ok()
            && self
                .socket
                .recv(&mut buffer)
                .is_ok_and(|length| buffer[..length].starts_with(cookie.as_bytes()))
    }

    /// Carries all dialogues to their end, `window` at a time; returns them in their order of completion.
    pub(super) fn converse<D: Dialogue>(
        &mut self,
        dialogues: impl IntoIterator<Item = D>,
        window: usize,
    ) -> anyhow::Result<Vec<D>> {
        let mut waiting = dialogues.into_iter();
        let mut flying: VecDeque<InFlight<D>> = VecDeque::with_capacity(window);
        let mut finished = Vec::new();
        let mut buffer = vec![0u8; 65_536];
        loop {
            while flying.len() < window {
                let Some(mut dialogue) = waiting.next() else { break };
                match dialogue.next(None)? {
                    Some(request) => flying.push_back(self.launch(dialogue, &request)?),
                    None => finished.push(dialogue),
                }
            }
            if flying.is_empty() {
                return Ok(finished);
            }
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    self.resend_overdue(&mut flying)?;
                    continue;
                }
                Err(error) => return Err(error).context("ng reply: is the server gone?"),
            };
            let Some((cookie, body)) = split_frame(&buffer[..length]) else {
                continue;
            };
            // A reply to a request answered before (it was sent twice) finds nobody.
            let Some(index) = flying.iter().position(|one| one.cookie.as_bytes() == cookie) else {
                continue;
            };
            let mut landed = flying.swap_remove_back(index).expect("position found it");
            let reply = Value::decode(body).context("ng reply")?;
            match landed.dialogue.next(Some(&reply))? {
                Some(request) => flying.push_back(self.launch(landed.dialogue, &request)?),
                None => finished.push(landed.dialogue),
            }
        }
    }

    fn launch<D>(&mut self, dialogue: D, request: &Value) -> anyhow::Result<InFlight<D>> {
        let (cookie, request) = self.frame(request);
        self.socket.send(&request).context("ng request")?;
        Ok(InFlight {
            dialogue,
            cookie,
            request,
            sent_at: Instant::now(),
            attempts: 1,
        })
    }

    fn frame(&mut self, request: &Value) -> (String, Vec<u8>) {
        let cookie = format!("b{:x}", self.next_cookie);
        self.next_cookie += 1;
        let mut bytes = format!("{cookie} ").into_bytes();
        request.encode(&mut bytes);
        (cookie, bytes)
    }

    fn resend_overdue<D>(&self, flying: &mut VecDeque<InFlight<D>>) -> anyhow::Result<()> {
        for one in flying
            .iter_mut()
            .filter(|one| one.sent_at.elapsed() > RETRY_AFTER)
        {
            anyhow::ensure!(
                one.attempts < ATTEMPTS,
                "ng request unanswered after {ATTEMPTS} attempts"
            );
            self.socket.send(&one.request).context("ng request, again")?;
            one.sent_at = Instant::now();
            one.attempts += 1;
        }
        Ok(())
    }
}

fn split_frame(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = datagram.iter().position(|byte| *byte == b' ')?;
    Some((&datagram[..space], &datagram[space + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TwoPings(u32);

    impl Dialogue for TwoPings {
        fn next(&mut self, reply: Option<&Value>) -> anyhow::Result<Option<Value>> {
            if let Some(reply) = reply {
                anyhow::ensure!(reply.bytes_at("result") == Some(b"pong"), "no pong");
                self.0 += 1;
            }
            Ok((self.0 < 2).then(|| Value::dictionary([("command", Value::text("ping"))])))
        }
    }

    #[test]
    fn dialogues_run_to_their_end_although_replies_are_late_doubled_or_strange() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = server.local_addr().unwrap() else {
            unreachable!("bound to IPv4")
        };
        let answering = std::thread::spawn(move || {
            let mut buffer = [0u8; 2048];
            for _ in 0..40 {
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                let (cookie, _) = split_frame(&buffer[..length]).unwrap();
                let reply = [cookie, b" d6:result4:ponge"].concat();
                server.send_to(b"b0 d6:result4:ponge", from).unwrap();
                server.send_to(&reply, from).unwrap();
                server.send_to(&reply, from).unwrap();
            }
        });
        let mut client = NgClient::connect(address).unwrap();
        let finished = client.converse((0..20).map(|_| TwoPings(0)), 4).unwrap();
        assert_eq!(finished.iter().map(|one| one.0).sum::<u32>(), 40);
        answering.join().unwrap();
    }
}
