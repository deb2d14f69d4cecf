//! A call of two endpoints takes at most 3 KiB of the engine. Alone in its binary: it reads the process's own size.

#[path = "engine_scenarios/world.rs"]
#[expect(dead_code, reason = "shared with the scenarios")]
mod world;

use media_engine::command::{Command, Commit, SessionKey, SocketId};
use std::sync::Arc;
use world::{Graph, World};

const CALLS: u32 = 4_000;
const BYTES_MAX: u64 = 3 * 1024;

#[test]
fn a_call_takes_at_most_three_kibibytes() {
    let mut world = World::new();
    let call = Graph::call();
    // The graph itself is shared with the host and not the engine's.
    let spec = Arc::new(call.spec());
    let open = |world: &mut World, n: u32| {
        let (mut sockets, streams) = call.resources(None);
        for sockets in &mut sockets {
            sockets.rtp.0 += 4 * n;
            sockets.rtcp = sockets.rtcp.map(|rtcp| SocketId(rtcp.0 + 4 * n));
        }
        let session = SessionKey(u64::from(n));
        let commit = Commit {
            session,
            name: "s".into(),
            spec: spec.clone(),
            sockets,
            streams,
            links: Vec::new(),
            prompts: Vec::new(),
            recordings: Vec::new(),
            taps: Vec::new(),
            keys: Vec::new(),
        };
        world.command(Command::Commit(Box::new(commit)));
    };
    open(&mut world, 0);
    let before = resident_bytes();
    for n in 1..=CALLS {
        open(&mut world, n);
    }
    let per_call = (resident_bytes() - before) / u64::from(CALLS);
    println!("{per_call} bytes of the engine per call of two endpoints");
    assert_eq!(world.engine.totals().endpoints, 2 * (CALLS + 1));
    assert!(per_call <= BYTES_MAX, "{per_call} bytes");
    assert!(per_call > 500, "{per_call} bytes: the measurement saw nothing");
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has statm");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("its second field is pages");
    pages * 4096
}
