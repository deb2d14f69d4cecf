use std::time::Instant;

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
