//! The media host at the other end.

use std::{
    fmt, fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use proto::mediad::v1::{
    self as pb, files_client::FilesClient, host_client::HostClient, media_client::MediaClient,
};
use tonic::{
    Code, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// How long a host may take to answer the door.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it may take to answer a question.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why nothing came of it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Usage, files.
    Local(String),
    /// Nobody there, or nobody who speaks gRPC.
    Unreachable(String),
    /// The host said no.
    Refused(Status),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Local(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(message) | Self::Unreachable(message) => f.write_str(message),
            Self::Refused(status) => {
                write!(f, "{}: {}", code_name(status.code()), status.message())?;
                match pb::Error::decode(status.details()) {
                    Ok(error) if !error.subject.is_empty() => write!(f, " [{}]", error.subject),
                    Ok(_) | Err(_) => Ok(()),
                }
            }
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// "FAILED_PRECONDITION" for `FailedPrecondition`, as the contract writes it.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Certificates for mutual TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// A connection, and as whom to act; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    media: MediaClient<Channel>,
    host: HostClient<Channel>,
    files: FilesClient<Channel>,
    owner: pb::Owner,
}

impl Remote {
    /// Connects to `host`, an address with port or a URL.
    pub(crate) async fn connect(
        host: &str,
        tls: Option<Tls>,
        controller: String,
        epoch: u64,
    ) -> Result<Self, Failure> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = if host.contains("://") {
            host.to_owned()
        } else {
            format!("{scheme}://{host}")
        };
        let usage = |error: tonic::transport::Error| {
            Failure::Local(format!(
                "--host {host}: {error}; give ADDRESS:PORT, such as 127.0.0.1:8700"
            ))
        };
        let mut endpoint = Endpoint::from_shared(url)
            .map_err(usage)?
            .connect_timeout(CONNECT_TIMEOUT);
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls.config()?).map_err(usage)?;
        }
        let channel = endpoint.connect().await.map_err(|error| {
            let cause = root_cause(&error);
            Failure::Unreachable(format!(
                "cannot reach a media host at {host}: {cause}; is mediad running there (control.listen), and is --host \
                 or MCTL_HOST right?"
            ))
        })?;
        Ok(Self {
            media: MediaClient::new(channel.clone()).max_decoding_message_size(64 << 20),
            host: HostClient::new(channel.clone()),
            files: FilesClient::new(channel),
            owner: pb::Owner { controller, epoch },
        })
    }

    /// The service of the host's files.
    pub(crate) fn files(&self) -> FilesClient<Channel> {
        self.files.clone()
    }

    pub(crate) async fn status(&mut self) -> Result<pb::StatusReply, Failure> {
        Ok(self.host.status(ask(pb::StatusRequest {})).await?.into_inner())
    }

    /// Every session, page by page.
    pub(crate) async fn list(&mut self, controller: String) -> Result<pb::ListReply, Failure> {
        let mut all = pb::ListReply::default();
        loop {
            let request = pb::ListRequest {
                controller: controller.clone(),
                limit: 0,
                after: all.next,
            };
            let page = self.media.list(ask(request)).await?.into_inner();
            all.sessions.extend(page.sessions);
            all.next = page.next;
            if all.next.is_empty() {
                return Ok(all);
            }
        }
    }

    pub(crate) async fn describe(&mut self, session: String) -> Result<pb::SessionDescription, Failure> {
        let reply = self
            .media
            .describe(ask(pb::DescribeRequest { session }))
            .await?
            .into_inner();
        Ok(reply.description.unwrap_or_default())
    }

    pub(crate) async fn explain(
        &mut self,
        session: String,
        from: String,
        to: String,
    ) -> Result<pb::ExplainReply, Failure> {
        Ok(self
            .media
            .explain(ask(pb::ExplainRequest { session, from, to }))
            .await?
            .into_inner())
    }

    /// Events, after `BOOT_ID:NUMBER` or from now on.
    pub(crate) async fn watch(
        &mut self,
        controller: String,
        after: Option<&str>,
    ) -> Result<Streaming<pb::WatchReply>, Failure> {
        let (boot_id, after) = match after {
            None => (String::new(), 0),
            Some(place) => place
                .rsplit_once(':')
                .and_then(|(boot_id, number)| Some((boot_id.to_owned(), number.parse().ok()?)))
                .ok_or_else(|| {
                    Failure::Local(format!(
                        "--after {place}: must be BOOT_ID:NUMBER, as watch prints it"
                    ))
                })?,
        };
        Ok(self
            .media
            .watch(pb::WatchRequest {
                controller,
                boot_id,
                after,
                only: Vec::new(),
            })
            .await?
            .into_inner())
    }

    pub(crate) async fn drain(&mut self, drain: bool) -> Result<pb::DrainReply, Failure> {
        Ok(self
            .host
            .drain(ask(pb::DrainRequest { drain }))
            .await?
            .into_inner())
    }

    pub(crate) async fn apply(&mut self, request: pb::ApplyRequest) -> Result<pb::ApplyReply, Failure> {
        Ok(self.media.apply(ask(request)).await?.into_inner())
    }

    pub(crate) async fn delete(&mut self, session: String) -> Result<pb::DeleteReply, Failure> {
        let request = pb::DeleteRequest {
            session,
            owner: Some(self.owner.clone()),
        };
        Ok(self.media.delete(ask(request)).await?.into_inner())
    }

    pub(crate) async fn send_digits(
        &mut self,
        session: String,
        node: String,
        digits: String,
        duration_ms: u32,
        gap_ms: u32,
    ) -> Result<pb::ActReply, Failure> {
        // One id for each call of the tool: nothing is repeated behind the operator's back.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let request = pb::ActRequest {
            session,
            owner: Some(self.owner.clone()),
            node,
            request: format!("mctl-{}-{}", std::process::id(), since.as_nanos()),
            act: Some(pb::act_request::Act::SendDigits(pb::SendDigits {
                digits,
                duration_ms,
                gap_ms,
                volume: None,
            })),
        };
        Ok(self.media.act(ask(request)).await?.into_inner())
    }
}

impl Tls {
    fn config(&self) -> Result<ClientTlsConfig, Failure> {
        let read = |path: &PathBuf| {
            fs::read(path)
                .map_err(|error| Failure::Local(format!("{}: {error}; give a PEM file", path.display())))
        };
        let identity = Identity::from_pem(read(&self.cert)?, read(&self.key)?);
        Ok(ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&self.ca)?))
            .identity(identity))
    }
}

/// A question that does not wait for ever.
pub(crate) fn ask<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_as_in_the_contract() {
        assert_eq!(code_name(Code::FailedPrecondition), "FAILED_PRECONDITION");
        assert_eq!(code_name(Code::NotFound), "NOT_FOUND");
    }

    #[test]
    fn a_refusal_names_what_is_at_fault() {
        let error = pb::Error {
            code: 3,
            message: "no".into(),
            subject: "node:a".into(),
        };
        let status = Status::with_details(Code::InvalidArgument, "no", error.encode_to_vec().into());
        assert_eq!(
            Failure::Refused(status).to_string(),
            "INVALID_ARGUMENT: no [node:a]"
        );
    }
}
