//! A flag that SIGTERM and SIGINT raise, so that a phone can say goodbye.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Raised once, never lowered.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag raised by SIGTERM and SIGINT.
    ///
    /// # Errors
    /// The process may have no signal handlers or threads.
    pub fn on_signals() -> Result<Self> {
        let stop = Self::default();
        let raised = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("tokio runtime")?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                let (Ok(mut terminate), Ok(mut interrupt)) =
                    (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
                else {
                    return;
                };
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                raised.raise();
            });
        })?;
        Ok(stop)
    }

    /// Raises it.
    pub fn raise(&self) {
        self.0.store(true, Relaxed);
    }

    /// It was raised.
    pub fn is_raised(&self) -> bool {
        self.0.load(Relaxed)
    }
}
