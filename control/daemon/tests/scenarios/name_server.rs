//! A name server of a few records, for tests.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType},
};

pub(crate) type Zone = Vec<(&'static str, RData)>;

/// Answers with its records until the process ends.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    questions: Arc<AtomicUsize>,
}

/// What it makes of a question for a kind of records that it does not know.
enum Manner {
    Refuse(RecordType),
    Ignore(RecordType),
}

impl NameServer {
    pub(crate) fn start(zone: Zone) -> Self {
        Self::with(zone, None)
    }

    /// One that answers questions for this kind of records with SERVFAIL.
    #[allow(dead_code, reason = "only the tests of the resolver meet such a one")]
    pub(crate) fn refusing(zone: Zone, kind: RecordType) -> Self {
        Self::with(zone, Some(Manner::Refuse(kind)))
    }

    /// One that does not answer questions for this kind of records.
    #[allow(dead_code, reason = "only the tests of the resolver meet such a one")]
    pub(crate) fn silent_about(zone: Zone, kind: RecordType) -> Self {
        Self::with(zone, Some(Manner::Ignore(kind)))
    }

    fn with(zone: Zone, manner: Option<Manner>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let questions = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&questions);
        std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let Ok(question) = Message::from_vec(&buffer[..length]) else {
                    continue;
                };
                asked.fetch_add(1, Relaxed);
                let kind = question.queries[0].query_type();
                let reply = match manner {
                    Some(Manner::Ignore(ignored)) if ignored == kind => continue,
                    Some(Manner::Refuse(refused)) if refused == kind => refusal(&question),
                    _ => answer(&question, &zone),
                };
                let _ = socket.send_to(&reply, from);
            }
        });
        Self { address, questions }
    }

    /// How often it was asked.
    #[allow(dead_code, reason = "only some of the tests that share this file count")]
    pub(crate) fn questions(&self) -> usize {
        self.questions.load(Relaxed)
    }
}

fn refusal(question: &Message) -> Vec<u8> {
    let mut answer = question.clone();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.response_code = ResponseCode::ServFail;
    answer.to_vec().unwrap()
}

fn answer(question: &Message, zone: &Zone) -> Vec<u8> {
    let mut answer = question.clone();
    answer.metadata.message_type = MessageType::Response;
    let query = question.queries[0].clone();
    let asked = query.name().to_ascii().to_lowercase();
    let named = zone.iter().filter(|(name, _)| *name == asked);
    if named.clone().count() == 0 {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    for (_, data) in named.filter(|(_, data)| data.record_type() == query.query_type()) {
        answer.add_answer(Record::from_rdata(query.name().clone(), 60, data.clone()));
    }
    answer.to_vec().unwrap()
}
