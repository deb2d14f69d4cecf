//! Whether everybody makes progress: each thread is asked to give a sign, and has a time to give it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tonic::Code;

use crate::{
    notify::Notifier,
    requests::{HostLine, Request},
};

/// Pings in one period of the service manager's watchdog: one that comes late is not yet a missed period.
const PINGS_PER_PERIOD: u32 = 3;

/// How long to wait when the line to the host thread is full.
const LINE_FULL: Duration = Duration::from_millis(1);

/// A question and its answer between two threads: two relaxed atomics, so that answering costs a worker nothing.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Pulse {
    /// Asks for a sign of life; wake the one who is asked. Gives whether the question before was answered.
    pub(crate) fn ask(&self) -> bool {
        let answered = self.answered.load(Relaxed) == self.asked.load(Relaxed);
        self.asked.fetch_add(1, Relaxed);
        answered
    }

    /// The one who is asked makes progress.
    pub(crate) fn answer(&self) {
        let asked = self.asked.load(Relaxed);
        if self.answered.load(Relaxed) != asked {
            self.answered.store(asked, Relaxed);
        }
    }
}

/// Tells the service manager that the process is alive for as long as it is; returns at once when nobody wants to know.
pub(crate) async fn watch(notifier: Arc<Notifier>, line: HostLine) {
    ping(&notifier, |patience| look(&line, patience)).await;
}

/// Whether the host thread answers and every worker answered the last time.
async fn look(line: &HostLine, patience: Duration) -> Result<(), String> {
    // Overload is no standstill: a full line has room again as soon as the host thread has taken from it.
    let asked = async {
        loop {
            match line.ask(Request::Pulse).await {
                Err(error) if error.code == Code::ResourceExhausted as i32 => sleep(LINE_FULL).await,
                answer => return answer,
            }
        }
    };
    match timeout(patience, asked).await {
        Ok(Ok(stalled)) if stalled.is_empty() => Ok(()),
        Ok(Ok(stalled)) => Err(format!("workers {stalled:?} make no progress")),
        Ok(Err(_)) | Err(_) => Err("the host thread does not answer".to_owned()),
    }
}

/// Pings after every look at which all was well. The word of what is not goes to the log and the service manager once.
async fn ping<F>(notifier: &Notifier, look: impl Fn(Duration) -> F)
where
    F: Future<Output = Result<(), String>>,
{
    let Some(period) = notifier.watchdog() else { return };
    let pause = period / PINGS_PER_PERIOD;
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = None;
    loop {
        ticks.tick().await;
        match look(pause).await {
            Ok(()) => {
                notifier.alive();
                if trouble.take().is_some() {
                    tracing::info!("everybody makes progress again");
                    notifier.status("");
                }
            }
            Err(why) => {
                if trouble.as_ref() != Some(&why) {
                    tracing::error!(why, "no sign of life is given to the service manager");
                    notifier.status(&why);
                }
                trouble = Some(why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::{Ready, ready},
    };

    use super::*;
    use crate::notify::tests::{listened, next};

    #[test]
    fn who_does_not_answer_stalls_until_he_does() {
        let pulse = Pulse::default();
        assert!(pulse.ask(), "nothing was asked before");
        pulse.answer();
        assert!(pulse.ask());
        assert!(!pulse.ask(), "no answer");
        assert!(!pulse.ask(), "still none");
        pulse.answer();
        assert!(pulse.ask(), "one answer settles all questions");
    }

    #[tokio::test]
    async fn pings_stop_with_a_stalled_worker_and_go_on_with_it() {
        let (heard, notifier) = listened("stalled", 6_000);
        // The second of two workers answers three questions, is deaf for ten, and answers again.
        let (deaf, well) = (3..13, Pulse::default());
        let asked = Cell::new(0);
        let look = |_| {
            let answered = well.ask();
            if !deaf.contains(&asked.replace(asked.get() + 1)) {
                well.answer();
            }
            ready(if answered {
                Ok(())
            } else {
                Err("workers [1] make no progress".to_owned())
            })
        };
        let enough = async {
            while asked.get() < 17 {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! { () = ping(&notifier, look) => {}, () = enough => {} }
        // Asked at 0, 1, 2 and 3 with the answer before in hand; 4 to 13 without; from 14 on with it again.
        let words: Vec<String> = (0..7).map(|_| next(&heard)).collect();
        let alive = "WATCHDOG=1";
        assert_eq!(words[..4], [alive; 4]);
        assert_eq!(words[4], "STATUS=workers [1] make no progress", "said once");
        assert_eq!(words[5..], [alive, "STATUS="]);
    }

    #[tokio::test]
    async fn nobody_is_asked_when_nobody_wants_to_know() {
        let (_heard, notifier) = listened("unwatched", 0);
        ping(&notifier, |_| -> Ready<_> { panic!("nobody wants to know") }).await;
    }
}
