//! The merged log: what everybody did, in the order of time, with a ladder of the SIP messages.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use crate::people::Cast;

/// Width of one column of the ladder.
const COLUMN: usize = 22;

/// Writes `call_flow.log` from the logs beside it.
pub(crate) fn write(run_dir: &Path, cast: &Cast) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(run_dir.join("call_flow.log"))?);
    let names = cast.everybody().map(|person| person.name.as_str());
    let sources: Vec<&str> = ["server", "media"].into_iter().chain(names).collect();
    let mut lines = Vec::new();
    for source in sources {
        let text = fs::read_to_string(run_dir.join(format!("{source}.log"))).unwrap_or_default();
        let dated = text
            .lines()
            .filter(|line| line.starts_with("20") && line.get(10..11) == Some("T"));
        lines.extend(dated.map(|line| (source.to_owned(), line.to_owned())));
    }
    // Times are written so that they sort as text.
    lines.sort_by(|(_, a), (_, b)| a.get(..27).cmp(&b.get(..27)));
    ladder(&mut out, &lines, cast)?;
    writeln!(out, "\n--- everything, in the order of time\n")?;
    for (source, line) in &lines {
        writeln!(out, "{source:<10} {line}")?;
    }
    out.flush()
}

/// The server's messages, an arrow each between the server and the phone.
fn ladder(out: &mut impl io::Write, lines: &[(String, String)], cast: &Cast) -> io::Result<()> {
    // Of a crowd the first few are enough to see how calls go.
    let phones: Vec<_> = cast
        .agents
        .iter()
        .take(2)
        .chain(cast.customers.iter().take(1))
        .collect();
    write!(out, "{:<17}{:^COLUMN$}", "time (UTC)", "server")?;
    for phone in &phones {
        write!(out, "{:^COLUMN$}", format!("{} :{}", phone.name, phone.port))?;
    }
    writeln!(out)?;
    for (_, line) in lines.iter().filter(|(source, _)| source == "server") {
        let Some((direction, peer, start)) = message(line) else {
            continue;
        };
        let Some(column) = phones
            .iter()
            .position(|phone| peer.ends_with(&format!(":{}", phone.port)))
        else {
            continue;
        };
        let time = line.get(11..26).unwrap_or_default();
        let room = COLUMN * (column + 1) - 2;
        // Of a request the method says enough.
        let what = start.split_once(" sip:").map_or(start, |(method, _)| method);
        let label: String = format!(" {what} ").chars().take(room).collect();
        let arrow = if direction == "rx" {
            format!("<{label:-^room$}-")
        } else {
            format!("-{label:-^room$}>")
        };
        writeln!(out, "{time}  {:>1$}{arrow}", "", COLUMN / 2)?;
    }
    Ok(())
}

/// Direction, peer and first line of a message in controld's log.
fn message(line: &str) -> Option<(&str, &str, &str)> {
    let (_, rest) = line.split_once(" sip ")?;
    let (direction, rest) = rest.split_once(' ')?;
    let (_, rest) = rest.split_once("peer=")?;
    let (peer, rest) = rest.split_once(" start=")?;
    let (start, _) = rest.split_once(" call_id=")?;
    Some((direction, peer, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_server_is_read() {
        let line = "2026-11-21T10:53:00.043Z DEBUG sip tx transport=\"udp\" peer=127.0.0.1:5071 start=180 Ringing \
                    call_id=f5 cseq=1 INVITE";
        assert_eq!(message(line), Some(("tx", "127.0.0.1:5071", "180 Ringing")));
        assert_eq!(message("2026 INFO ready"), None);
    }
}
