//! gRPC calls by method and code, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tonic::{Code, Response, Status};

/// Every method that is counted.
pub(crate) const METHODS: [&str; 18] = [
    "Media/Control",
    "Media/Apply",
    "Media/Act",
    "Media/Delete",
    "Media/Adopt",
    "Media/Renew",
    "Media/List",
    "Media/Describe",
    "Media/Explain",
    "Media/Watch",
    "Media/Tap",
    "Host/Status",
    "Host/Drain",
    "Files/Put",
    "Files/List",
    "Files/Delete",
    "Files/Fetch",
    "Files/Acknowledge",
];

/// gRPC has the codes 0 to 16.
const CODES: usize = 17;

/// Names of the codes, as Prometheus labels.
pub(crate) const CODE_NAMES: [&str; CODES] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Commands of control streams, which are no calls of their own.
pub(crate) const COMMANDS: [&str; 4] = ["apply", "act", "delete", "adopt"];

/// Counters of calls and of commands, by outcome.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    calls: [[AtomicU64; CODES]; METHODS.len()],
    commands: [[AtomicU64; CODES]; COMMANDS.len()],
}

impl Tally {
    /// Counts one call and passes its result on.
    pub(crate) fn call<T>(&self, method: &str, result: Result<T, Status>) -> Result<Response<T>, Status> {
        let code = result.as_ref().map_or_else(Status::code, |_| Code::Ok);
        if let Some(row) = METHODS.iter().position(|known| *known == method) {
            self.calls[row][code as usize].fetch_add(1, Relaxed);
        }
        result.map(Response::new)
    }

    /// Counts one command of a control stream.
    pub(crate) fn command(&self, kind: usize, code: i32) {
        let code = usize::try_from(code).unwrap_or(2).min(CODES - 1);
        self.commands[kind][code].fetch_add(1, Relaxed);
    }

    /// (method, code, count) of every call that happened.
    pub(crate) fn calls(&self) -> Vec<(&'static str, &'static str, u64)> {
        told(&METHODS, &self.calls)
    }

    /// (command, code, count) of every command that happened.
    pub(crate) fn commands(&self) -> Vec<(&'static str, &'static str, u64)> {
        told(&COMMANDS, &self.commands)
    }
}

fn told(names: &[&'static str], rows: &[[AtomicU64; CODES]]) -> Vec<(&'static str, &'static str, u64)> {
    let of_row = |(name, row): (&&'static str, &[AtomicU64; CODES])| {
        let name = *name;
        let counts: Vec<_> = row
            .iter()
            .zip(CODE_NAMES)
            .map(|(count, code)| (name, code, count.load(Relaxed)))
            .collect();
        counts
    };
    names
        .iter()
        .zip(rows)
        .flat_map(of_row)
        .filter(|(_, _, count)| *count > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_code() {
        let tally = Tally::default();
        tally.call("Host/Status", Ok(())).unwrap();
        tally
            .call::<()>("Host/Status", Err(Status::unavailable("x")))
            .unwrap_err();
        tally.command(2, 5);
        assert_eq!(
            tally.calls(),
            [("Host/Status", "OK", 1), ("Host/Status", "UNAVAILABLE", 1)]
        );
        assert_eq!(tally.commands(), [("delete", "NOT_FOUND", 1)]);
    }
}
