//! Says back what it hears: the shortest program that takes part in a call, and a far end for `tap-measure`.
//!
//! ```text
//! mctl apply - < call.yaml                  # puts a tap "bot" that hears "a" and is heard by "a"
//! tap-echo --session call-1 --tap bot
//! ```
#![forbid(unsafe_code)]

use clap::Parser;
use tap::{Heard, Line, Place};

/// Say back what a tap hears.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    #[command(flatten)]
    place: Place,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut line = Line::open(&args.place.host, &args.place.session, &args.place.tap).await?;
    println!("echoing {} at {} Hz", args.place, line.sample_rate_hz());
    let (mut heard, mut unsaid) = (0u64, 0u64);
    let ended = loop {
        let next = tokio::select! {
            next = line.next() => next,
            _ = tokio::signal::ctrl_c() => break Ok(()),
        };
        match next {
            Ok(Some(Heard::Audio { pcm, .. })) => {
                heard += 1;
                // What the host does not take now would only be late.
                unsaid += u64::from(!line.speak(&pcm).await?);
            }
            Ok(Some(Heard::Lost(samples))) => eprintln!("{samples} samples were lost"),
            Ok(Some(Heard::Talks(node, talks))) => {
                println!("{node} {}", if talks { "talks" } else { "is silent" })
            }
            Ok(Some(Heard::Played(_))) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    println!("{heard} frames heard, {unsaid} not said back");
    ended
}
