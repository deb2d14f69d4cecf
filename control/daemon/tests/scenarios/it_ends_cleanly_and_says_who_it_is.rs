use std::{fs::OpenOptions, time::Instant};

use crate::support::{Controld, PATIENCE};

#[test]
fn sigterm_ends_it_with_success_and_soon() {
    let controld = Controld::start(&[]);
    let version = env!("CARGO_PKG_VERSION");
    let (_, page) = controld.page("/metrics");
    assert!(
        page.contains(&format!("controld_info{{version=\"{version}\"}} 1")),
        "{page}"
    );
    assert_eq!(controld.page("/v1/calls"), (200, "[]".to_owned()));
    assert_eq!(controld.page("/v1/cdrs?limit=5"), (200, "[]".to_owned()));
    assert_eq!(controld.page("/v1/cdrs?limitt=5").0, 400);
    let since = Instant::now();
    assert!(controld.terminate().success());
    assert!(since.elapsed() < PATIENCE / 2);
}

/// On a full disk, say, where what the core has to say of its media host cannot be written either.
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    for format in ["log.format=text", "log.format=json"] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let controld = Controld::start_logging_to(full.into(), &[format]);
        controld.reload();
        assert_eq!(controld.page("/v1/calls"), (200, "[]".to_owned()));
        assert!(controld.page("/v1/hosts").1.contains("\"a\""));
        assert!(controld.terminate().success());
    }
}
