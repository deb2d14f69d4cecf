//! Which CPU runs what.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::Workers;

/// CPUs for the workers and for everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// One entry for each worker: the CPU it is pinned to, or none.
    pub(crate) workers: Vec<Option<usize>>,
    /// CPUs for all other threads; empty: wherever the scheduler likes.
    pub(crate) others: Vec<usize>,
}

/// CPUs this process may run on.
pub(crate) fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Shares out the `allowed` CPUs.
///
/// # Errors
/// Names a configured CPU that this process may not use.
pub(crate) fn layout(config: &Workers, allowed: &[usize]) -> Result<Layout, String> {
    if let Some(cpu) = config.cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(format!(
            "workers.cpus: CPU {cpu} is not available; this process may run on {allowed:?}"
        ));
    }
    let count = match (config.count, config.cpus.len()) {
        (0, 0) => allowed.len().saturating_sub(1).max(1),
        (0, named) => named,
        (count, _) => count,
    };
    if !config.pin {
        return Ok(Layout {
            workers: vec![None; count],
            others: Vec::new(),
        });
    }
    let pinned: Vec<usize> = if config.cpus.is_empty() {
        // The highest numbered: interrupts and most other work live on the low ones.
        let first = allowed.len().saturating_sub(count);
        (0..count)
            .map(|worker| allowed[(first + worker) % allowed.len()])
            .collect()
    } else {
        config.cpus.clone()
    };
    let others = allowed
        .iter()
        .copied()
        .filter(|cpu| !pinned.contains(cpu))
        .collect();
    Ok(Layout {
        workers: pinned.into_iter().map(Some).collect(),
        others,
    })
}

/// Keeps the calling thread, and threads it starts, on `cpus`.
///
/// # Errors
/// What the kernel says.
pub(crate) fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    Ok(sched_setaffinity(None, &set)?)
}

/// Gives the calling thread SCHED_FIFO with `priority`.
///
/// # Errors
/// Mostly a missing CAP_SYS_NICE.
pub(crate) fn realtime(priority: u8) -> Result<(), String> {
    use thread_priority::{
        RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };
    let value = ThreadPriorityValue::try_from(priority).map_err(|error| error.to_string())?;
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(value),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    )
    .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(count: usize, cpus: &[usize]) -> Workers {
        Workers {
            count,
            cpus: cpus.to_vec(),
            ..Workers::default()
        }
    }

    #[test]
    fn workers_take_all_cpus_but_one() {
        let four = layout(&workers(0, &[]), &[0, 1, 2, 3]).unwrap();
        assert_eq!(
            four,
            Layout {
                workers: vec![Some(1), Some(2), Some(3)],
                others: vec![0]
            }
        );
        let one = layout(&workers(0, &[]), &[5]).unwrap();
        assert_eq!(
            one,
            Layout {
                workers: vec![Some(5)],
                others: vec![]
            }
        );
    }

    #[test]
    fn a_configured_layout_is_kept_or_refused() {
        let named = layout(&workers(0, &[2]), &[0, 1, 2]).unwrap();
        assert_eq!(
            named,
            Layout {
                workers: vec![Some(2)],
                others: vec![0, 1]
            }
        );
        assert!(layout(&workers(0, &[7]), &[0, 1]).unwrap_err().contains("CPU 7"));
        let crowded = layout(&workers(3, &[]), &[0, 1]).unwrap();
        assert_eq!(crowded.workers.len(), 3);
        let loose = layout(
            &Workers {
                pin: false,
                ..workers(2, &[])
            },
            &[0],
        )
        .unwrap();
        assert_eq!(
            loose,
            Layout {
                workers: vec![None, None],
                others: vec![]
            }
        );
    }
}
