//! `mctl top`: a media host as it lives, on a terminal.
//!
//! `sample` is what was asked and what two samples tell, `model` what is looked at, `frame` how it looks. This file
//! owns the terminal, the keys and the clock.

mod frame;
mod model;
mod sample;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ratatui::{
    DefaultTerminal, Terminal,
    backend::TestBackend,
    crossterm::event::{self, Event, KeyEventKind},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::sleep_until,
};

use self::{
    model::{Model, Then, Wanted},
    sample::Sample,
};
use crate::{
    remote::{Failure, Remote},
    table::say,
};

/// Columns of a frame that is printed.
const PRINTED_WIDTH: u16 = 80;
/// Lines of a frame that is printed, at least and at most; between them it shows every session.
const PRINTED_LINES: (u16, u16) = (24, 500);
/// More often tells nothing more and costs the host.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// Keys pressed and not yet looked at. Full: the thread that reads them waits.
const KEYS_WAITING: usize = 64;

/// The time between two looks, as an operator gives it.
pub(crate) fn interval(seconds: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = seconds.parse().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|interval| *interval >= SHORTEST_INTERVAL)
        .ok_or_else(|| "must be seconds, at least 0.1".to_owned())
}

/// Shows the host until the operator has seen enough. `once`, or an output that is no terminal: prints one frame.
pub(crate) async fn run(remote: Remote, host: &str, interval: Duration, once: bool) -> Result<(), Failure> {
    if once || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return print(remote, host, interval).await;
    }
    let on_terminal = |error: io::Error| Failure::Local(format!("terminal: {error}"));
    // From here on a panic, too, gives the terminal back: the hook is ratatui's.
    let mut terminal = ratatui::try_init().map_err(on_terminal)?;
    let shown = show(&mut terminal, remote, host, interval).await;
    ratatui::try_restore().map_err(on_terminal)?;
    shown.map_err(on_terminal)
}

/// Two samples, so that there are rates, then one frame as text.
async fn print(remote: Remote, host: &str, interval: Duration) -> Result<(), Failure> {
    let mut model = Model::new(host, PRINTED_LINES.1.into());
    // The first tells which sessions there are, the second begins to count, the third ends.
    for pause in [Duration::ZERO, Duration::ZERO, interval] {
        tokio::time::sleep(pause).await;
        let sample = take(remote.clone(), model.wanted()).await?;
        model.take(sample);
    }
    let lines = frame::lines_around(&model, PRINTED_WIDTH).saturating_add(model.shown.len() as u16);
    for line in as_text(
        &mut model,
        PRINTED_WIDTH,
        lines.clamp(PRINTED_LINES.0, PRINTED_LINES.1),
    ) {
        say(line);
    }
    Ok(())
}

/// A frame without colours.
fn as_text(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    fit(model, width, height);
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(drawn) = terminal.draw(|frame| frame::draw(model, frame));
    let line = |y| {
        let cells = (0..width).filter_map(|x| drawn.buffer.cell((x, y)));
        let text: String = cells.map(|cell| cell.symbol()).collect();
        text.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// Tells the model how many rows its table has.
fn fit(model: &mut Model, width: u16, height: u16) {
    model.rows = height
        .saturating_sub(frame::lines_around(model, width))
        .max(1)
        .into();
    model.keep_in_sight();
}

async fn show(
    terminal: &mut DefaultTerminal,
    remote: Remote,
    host: &str,
    interval: Duration,
) -> io::Result<()> {
    let mut keys = read_keys();
    let (mut terminate, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut model = Model::new(host, 16);
    let mut asking: Option<JoinHandle<Result<Sample, Failure>>> = None;
    let mut ask_at = tokio::time::Instant::now();
    loop {
        let size = terminal.size()?;
        fit(&mut model, size.width, size.height);
        terminal.draw(|frame| frame::draw(&model, frame))?;
        tokio::select! {
            event = keys.recv() => match event {
                // The thread that reads found the terminal gone.
                None => return Ok(()),
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match model.key(key) {
                    Then::Quit => return Ok(()),
                    Then::Ask => ask_at = tokio::time::Instant::now(),
                    Then::Nothing => {}
                },
                Some(_) => {}
            },
            sample = answer(&mut asking) => {
                asking = None;
                match sample {
                    Ok(sample) => model.take(sample),
                    Err(failure) => model.fail(failure.to_string()),
                }
            }
            () = sleep_until(ask_at), if asking.is_none() => {
                asking = Some(tokio::spawn(take(remote.clone(), model.wanted())));
                ask_at = tokio::time::Instant::now() + interval;
            }
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
    }
}

/// The sample that is being taken, when there is one.
async fn answer(asking: &mut Option<JoinHandle<Result<Sample, Failure>>>) -> Result<Sample, Failure> {
    match asking {
        None => std::future::pending().await,
        Some(asking) => asking
            .await
            .unwrap_or_else(|error| Err(Failure::Local(error.to_string()))),
    }
}

/// Keys and changes of size, read where blocking disturbs nobody.
fn read_keys() -> mpsc::Receiver<Event> {
    let (keys, read) = mpsc::channel(KEYS_WAITING);
    thread::spawn(move || {
        while let Ok(event) = event::read()
            && keys.blocking_send(event).is_ok()
        {}
    });
    read
}

/// Asks the host for everything that is wanted. Sessions that end meanwhile are left out.
async fn take(mut remote: Remote, wanted: Wanted) -> Result<Sample, Failure> {
    let status = remote.status().await?;
    let sessions = remote.list(String::new()).await?.sessions;
    let mut describing = JoinSet::new();
    for session in wanted.sessions {
        let mut remote = remote.clone();
        describing.spawn(async move { (session.clone(), remote.describe(session).await) });
    }
    let mut details = BTreeMap::new();
    while let Some(described) = describing.join_next().await {
        if let Ok((session, Ok(description))) = described {
            details.insert(session, description);
        }
    }
    let findings = match wanted.opened {
        None => None,
        Some(session) => {
            let explained = remote
                .explain(session.clone(), String::new(), String::new())
                .await;
            explained.ok().map(|reply| (session, reply.findings))
        }
    };
    Ok(Sample {
        at: Instant::now(),
        unix_us: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as u64,
        status,
        sessions,
        details,
        findings,
    })
}
