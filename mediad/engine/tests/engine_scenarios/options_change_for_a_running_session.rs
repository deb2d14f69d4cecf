use crate::world::{Graph, SESSION, World};
use media_engine::command::EventKind;
use std::time::Duration;

#[test]
fn a_shorter_media_timeout_counts_at_once() {
    let mut world = World::new();
    let mut graph = Graph::call();
    world.commit(SESSION, &graph);
    world.pass_ms(5_000);
    graph.options.media_timeout = Duration::from_secs(6);
    world.commit(SESSION, &graph);
    world.pass_ms(1_100);
    let timeouts = world.event_kinds();
    assert_eq!(timeouts.len(), 2, "{timeouts:?}");
    let in_time = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::MediaTimeout {
                silent_ms: 6_000..6_100,
                ..
            }
        )
    };
    assert!(timeouts.iter().all(in_time), "{timeouts:?}");
}
