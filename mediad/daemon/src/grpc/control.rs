//! A controller's long-lived stream: batches of commands in, their replies out, in order.
//!
//! Two tasks: one reads and passes batches to the host thread, one writes replies in the order of the batches. The
//! queue between them is bounded; a controller that does not read its replies is read no further.

use proto::mediad::v1::{self as pb, command::Kind, command_reply::Result as Done};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{Context, status};
use crate::{
    limits,
    requests::{self, Request as Ask, Way},
};

type Replies = mpsc::Sender<Result<pb::ControlReply, Status>>;

/// One batch on its way through the host.
struct Flying {
    kinds: Vec<usize>,
    /// Ids, for replies that the host never gives.
    ids: Vec<u64>,
    replies: oneshot::Receiver<Vec<pb::CommandReply>>,
}

/// Introduces the controller and starts the stream's tasks.
///
/// # Errors
/// The first message is not a Hello; the controller is refused.
pub(super) async fn open(
    context: Context,
    mut requests: Streaming<pb::ControlRequest>,
) -> Result<ReceiverStream<Result<pb::ControlReply, Status>>, Status> {
    let first = requests.message().await?.unwrap_or_default();
    let hello = first.hello.ok_or_else(|| {
        Status::invalid_argument(
            "hello is missing; the first message of a control stream introduces the controller",
        )
    })?;
    let controller = hello.controller.clone();
    let greeting = context
        .line
        .ask_or_refuse(|answer| Ask::Hello(hello, answer))
        .await
        .map_err(|error| status(&error))?;
    // From here on the lease counts this stream: whatever happens, Goodbye follows.
    let lease = Lease {
        context: context.clone(),
        controller,
    };
    let (replies, stream) = mpsc::channel(limits::MESSAGES_IN_FLIGHT);
    let hello = pb::ControlReply {
        hello: Some(greeting),
        replies: Vec::new(),
    };
    let _ = replies.send(Ok(hello)).await;
    let (flying, landing) = mpsc::channel(limits::MESSAGES_IN_FLIGHT);
    tokio::spawn(write(context.clone(), landing, replies));
    tokio::spawn(read(context, lease, first.commands, requests, flying));
    Ok(ReceiverStream::new(stream))
}

/// Keeps the lease while the stream is open.
struct Lease {
    context: Context,
    controller: String,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (line, mut controller) = (self.context.line.clone(), std::mem::take(&mut self.controller));
        // While the runtime goes down there is no lease to keep.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        // A full line must not lose it: the lease would never run out.
        runtime.spawn(async move {
            while let Err(Ask::Goodbye(back)) = line.send(Ask::Goodbye(controller)) {
                controller = back;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        });
    }
}

async fn read(
    context: Context,
    lease: Lease,
    first: Vec<pb::Command>,
    mut requests: Streaming<pb::ControlRequest>,
    flying: mpsc::Sender<Flying>,
) {
    let mut commands = first;
    loop {
        if !commands.is_empty() && flying.send(launch(&context, commands)).await.is_err() {
            break;
        }
        let message = tokio::select! {
            message = requests.message() => message,
            () = flying.closed() => break,
            () = context.ended() => break,
        };
        match message {
            Ok(Some(message)) => commands = message.commands,
            Ok(None) | Err(_) => break,
        }
    }
    drop(lease);
}

/// Passes a batch to the host; what cannot be passed is answered here.
fn launch(context: &Context, commands: Vec<pb::Command>) -> Flying {
    let kinds = commands
        .iter()
        .map(|command| kind_index(command.kind.as_ref()))
        .collect();
    let ids: Vec<u64> = commands.iter().map(|command| command.id).collect();
    let (reply, replies) = oneshot::channel();
    let refuse = |reply: oneshot::Sender<_>, error: &pb::Error| {
        let refused = |id: &u64| pb::CommandReply {
            id: *id,
            result: Some(Done::Error(error.clone())),
        };
        let _ = reply.send(ids.iter().map(refused).collect());
    };
    if commands.len() > limits::COMMANDS_PER_MESSAGE {
        let message = format!(
            "{} commands in one message, at most {}",
            commands.len(),
            limits::COMMANDS_PER_MESSAGE
        );
        refuse(
            reply,
            &pb::Error {
                code: Code::InvalidArgument as i32,
                message,
                subject: String::new(),
            },
        );
    } else if let Err(Ask::Commands(_, _, reply)) =
        context.line.send(Ask::Commands(commands, Way::Stream, reply))
    {
        refuse(reply, &context.line.full());
    }
    Flying { kinds, ids, replies }
}

async fn write(context: Context, mut landing: mpsc::Receiver<Flying>, replies: Replies) {
    loop {
        let flying = tokio::select! {
            flying = landing.recv() => flying,
            () = replies.closed() => return,
        };
        let Some(Flying {
            kinds,
            ids,
            replies: answer,
        }) = flying
        else {
            return;
        };
        let told = answer.await.unwrap_or_else(|_| {
            let gone = |id: u64| pb::CommandReply {
                id,
                result: Some(Done::Error(requests::stopped())),
            };
            ids.into_iter().map(gone).collect()
        });
        for (kind, reply) in kinds.iter().zip(&told) {
            let code = if let Some(Done::Error(error)) = &reply.result {
                error.code
            } else {
                0
            };
            context.tally.command(*kind, code);
        }
        if replies
            .send(Ok(pb::ControlReply {
                hello: None,
                replies: told,
            }))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Row of [`super::tally::COMMANDS`]; a command without a kind counts as an apply.
fn kind_index(kind: Option<&Kind>) -> usize {
    match kind {
        Some(Kind::Apply(_)) | None => 0,
        Some(Kind::Act(_)) => 1,
        Some(Kind::Delete(_)) => 2,
        Some(Kind::Adopt(_)) => 3,
    }
}
