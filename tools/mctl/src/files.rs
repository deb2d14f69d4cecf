//! Prompts and recordings of the host: listed, brought there, fetched and deleted.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use clap::{Subcommand, ValueEnum};
use proto::mediad::v1::{self as pb, files_client::FilesClient};
use tonic::transport::Channel;

use crate::{
    look::Show,
    remote::{Failure, ask},
    table::{Table, say},
};

/// Bytes of a file in one message.
const PART_BYTES: usize = 64 << 10;

/// Which of the host's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// What players play.
    Prompt,
    /// What recorders wrote.
    Recording,
}

impl Kind {
    fn wire(self) -> i32 {
        match self {
            Self::Prompt => pb::FileKind::Prompt.into(),
            Self::Recording => pb::FileKind::Recording.into(),
        }
    }
}

/// What to do with files.
#[derive(Debug, Subcommand)]
pub(crate) enum Act {
    /// Those that begin with a prefix.
    List {
        /// Which.
        kind: Kind,
        /// Only those whose name begins with this.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Bring a prompt to the host, in place of one of the same name.
    Put {
        /// The file here.
        file: PathBuf,
        /// Its name there, such as en/welcome.wav; without: the file's own.
        name: Option<String>,
    },
    /// Fetch a file.
    Get {
        /// Which.
        kind: Kind,
        /// Its name; of a recording also its path in the event, or its sidecar (.json).
        name: String,
        /// Where to; `-` is standard output; without: the name's last part, here.
        file: Option<PathBuf>,
        /// Go on from this byte.
        #[arg(long, default_value_t = 0, value_name = "BYTES")]
        offset: u64,
    },
    /// Delete a file.
    Delete {
        /// Which.
        kind: Kind,
        /// Its name.
        name: String,
    },
}

/// What to do with recordings.
#[derive(Debug, Subcommand)]
pub(crate) enum RecordingAct {
    /// The end of a recording is known: it is told no more.
    Acknowledge {
        /// Its id.
        recording: String,
        /// Its segment.
        #[arg(default_value_t = 0)]
        segment: u32,
    },
}

type Client = FilesClient<Channel>;

/// Does it.
pub(crate) async fn run(mut files: Client, show: Show, act: Act) -> Result<(), Failure> {
    match act {
        Act::List { kind, prefix } => list(&mut files, show, kind, prefix).await,
        Act::Put { file, name } => put(&mut files, show, &file, name).await,
        Act::Get {
            kind,
            name,
            file,
            offset,
        } => get(&mut files, kind, name, file, offset).await,
        Act::Delete { kind, name } => {
            let request = pb::FileDeleteRequest {
                kind: kind.wire(),
                name: name.clone(),
            };
            let reply = files.delete(ask(request)).await?.into_inner();
            show.said("FileDeleteReply", &reply, format_args!("deleted {name}"));
            Ok(())
        }
    }
}

/// All recordings, or something done to one.
pub(crate) async fn recordings(
    mut files: Client,
    show: Show,
    act: Option<RecordingAct>,
) -> Result<(), Failure> {
    match act {
        None => list(&mut files, show, Kind::Recording, String::new()).await,
        Some(RecordingAct::Acknowledge { recording, segment }) => {
            let text = format!("acknowledged {recording} segment {segment}");
            let request = pb::AcknowledgeRequest { recording, segment };
            let reply = files.acknowledge(ask(request)).await?.into_inner();
            show.said("AcknowledgeReply", &reply, text);
            Ok(())
        }
    }
}

/// Every file, page by page.
async fn list(files: &mut Client, show: Show, kind: Kind, prefix: String) -> Result<(), Failure> {
    let mut all = pb::FileListReply::default();
    loop {
        let request = pb::FileListRequest {
            kind: kind.wire(),
            prefix: prefix.clone(),
            limit: 0,
            after: all.next,
        };
        let page = files.list(ask(request)).await?.into_inner();
        all.files.extend(page.files);
        all.next = page.next;
        if all.next.is_empty() {
            break;
        }
    }
    if show.as_json("FileListReply", &all) {
        return Ok(());
    }
    let mut table = Table::new(&["name", ">length", ">bytes", ">changed"]);
    for file in &all.files {
        let seconds = file.duration_ms / 1_000;
        table.row([
            file.name.clone(),
            format!(
                "{}:{:02}.{}",
                seconds / 60,
                seconds % 60,
                file.duration_ms / 100 % 10
            ),
            file.size_bytes.to_string(),
            format!("{} ago", crate::look::ago(file.modified_unix_us)),
        ]);
    }
    table.print("none");
    Ok(())
}

async fn put(files: &mut Client, show: Show, file: &Path, name: Option<String>) -> Result<(), Failure> {
    let local = |error: std::io::Error| Failure::Local(format!("{}: {error}", file.display()));
    let own_name = || {
        file.file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned()
    };
    let name = name.unwrap_or_else(own_name);
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|mut opened| opened.read_to_end(&mut bytes))
        .map_err(local)?;
    let mut parts = vec![pb::PutRequest {
        name: name.clone(),
        data: Vec::new(),
    }];
    parts.extend(bytes.chunks(PART_BYTES).map(|part| pb::PutRequest {
        name: String::new(),
        data: part.to_vec(),
    }));
    let reply = files.put(tokio_stream::iter(parts)).await?.into_inner();
    let text = format!("{name}: {} bytes, sha256 {}", reply.size_bytes, reply.sha256);
    show.said("PutReply", &reply, text);
    Ok(())
}

async fn get(
    files: &mut Client,
    kind: Kind,
    name: String,
    file: Option<PathBuf>,
    offset: u64,
) -> Result<(), Failure> {
    let last = name.rsplit('/').next().unwrap_or(&name).to_owned();
    let request = pb::FetchRequest {
        kind: kind.wire(),
        name,
        offset,
        length: 0,
    };
    let mut parts = files.fetch(request).await?.into_inner();
    let file = file.unwrap_or_else(|| last.into());
    let local = |error: std::io::Error| Failure::Local(format!("{}: {error}", file.display()));
    let to_stdout = file.as_os_str() == "-";
    // Made when the first bytes are there: a refusal leaves no empty file.
    let mut place: Option<Box<dyn std::io::Write>> = None;
    let mut bytes = 0;
    while let Some(part) = parts.message().await? {
        let place = match &mut place {
            Some(place) => place,
            None if to_stdout => place.insert(Box::new(std::io::stdout())),
            None => {
                let mut options = File::options();
                options.create(true).write(true);
                let opened = options.truncate(offset == 0).append(offset > 0).open(&file);
                place.insert(Box::new(opened.map_err(local)?))
            }
        };
        place.write_all(&part.data).map_err(local)?;
        bytes += part.data.len();
    }
    if let Some(mut place) = place {
        place.flush().map_err(local)?;
    }
    if !to_stdout {
        say(format_args!("{}: {bytes} bytes", file.display()));
    }
    Ok(())
}
