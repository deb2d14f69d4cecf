//! Who may depend on whom, and where the asynchronous runtime may live.

use crate::Violation;
use crate::metadata::{Dependency, Metadata, Package};
use crate::source::Tree;
use std::collections::BTreeSet;

/// Each crate of the house with the crates it may be built from; `ANY` is every one. The table is whole:
/// a crate that is not built yet has its line, and a crate without a line is refused.
const ARROWS: &[(&str, &[&str])] = &[
    ("rtp", &[]),
    ("srtp", &["rtp"]),
    ("webrtc", &[]),
    ("codecs", &[]),
    ("sound", &["codecs"]),
    ("media-engine", &["rtp", "srtp", "webrtc", "codecs", "proto"]),
    ("media-net", &[]),
    (
        "mediad",
        &[
            "media-engine",
            "media-net",
            "webrtc",
            "codecs",
            "rtp",
            "sound",
            "proto[grpc]",
        ],
    ),
    ("sdp", &[]),
    ("sip", &[]),
    ("call-control", &["sip", "sdp", "proto"]),
    ("ng", &["sdp", "proto"]),
    ("controld", &["call-control", "sip", "sdp", "ng", "proto[grpc]"]),
    ("proto", &[]),
    ("netem", &[]),
    ("noalloc", &[]),
    ("tidy", &[]),
    (
        "sim",
        &[
            "media-engine",
            "call-control",
            "ng",
            "sip",
            "sdp",
            "rtp",
            "srtp",
            "codecs",
            "webrtc",
            "netem",
            "proto",
        ],
    ),
    ("demo", &["sip", "sdp", "rtp", "codecs"]),
    ("mctl", &["proto[grpc]"]),
    ("tap", &["proto[grpc]"]),
    ("bench", &[ANY]),
];

/// What tests may use on top of their crate's own arrows: measuring tools and oracles.
const DEV_ARROWS: &[&str] = &["noalloc", "netem", "bench"];

const ANY: &str = "*";

/// Crates that take time, chance and datagrams as arguments; nothing they are built from may hold a runtime.
const CORES: &[&str] = &[
    "rtp",
    "srtp",
    "webrtc",
    "codecs",
    "sound",
    "media-engine",
    "sip",
    "sdp",
    "call-control",
    "ng",
    "media-net",
    "netem",
    "noalloc",
    "sim",
    "tidy",
];

/// Clocks, chance, sockets, threads and locks from outside the standard library, which clippy does not see.
const NOT_IN_CORES: &[&str] = &[
    "chrono",
    "crossbeam-channel",
    "fastrand",
    "getrandom",
    "libc",
    "mio",
    "nix",
    "parking_lot",
    "polling",
    "rand",
    "rayon",
    "rustix",
    "socket2",
    "time",
];

/// Cores only by name for the runtime: these are made of system calls, or run outside any session.
const NOT_PURE: &[&str] = &["media-net", "noalloc", "tidy"];

/// Crates that may hold a runtime; `proto` only behind its feature `grpc`.
const RUNTIME_OWNERS: &[&str] = &["mediad", "controld", "mctl", "tap", "demo", "bench", "proto"];

/// Compares each member's dependencies within the workspace with the table.
pub(crate) fn check_arrows(metadata: &Metadata, tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in metadata.members() {
        let manifest = metadata.manifest(package);
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            let message = format!(
                "crate `{}` has no line in tools/tidy/src/arrows.rs; give it one",
                package.name
            );
            violations.push(Violation::new(&manifest, 0, "arrows", message));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.path.is_some())
        {
            if !is_allowed(dependency, allowed) {
                let line = tree.line_starting(&manifest, &dependency.name);
                let message = forbidden_arrow(package, dependency);
                violations.push(Violation::new(&manifest, line, "arrows", message));
            }
        }
    }
    violations
}

fn is_allowed(dependency: &Dependency, allowed: &[&str]) -> bool {
    if allowed.contains(&ANY) || dependency.is_dev() && DEV_ARROWS.contains(&dependency.name.as_str()) {
        return true;
    }
    let with_grpc = format!("{}[grpc]", dependency.name);
    let has_grpc = dependency.features.iter().any(|feature| feature == "grpc");
    allowed.contains(&with_grpc.as_str()) || !has_grpc && allowed.contains(&dependency.name.as_str())
}

fn forbidden_arrow(package: &Package, dependency: &Dependency) -> String {
    let features = if dependency.features.iter().any(|feature| feature == "grpc") {
        "[grpc]"
    } else {
        ""
    };
    let kind = dependency
        .kind
        .as_deref()
        .map_or_else(String::new, |kind| format!(" ({kind})"));
    format!(
        "`{}` must not depend on `{}{features}`{kind}; move the code to where the arrows allow it, see ARCHITECTURE.md",
        package.name, dependency.name
    )
}

/// Keeps the runtime out of every crate but its owners, directly and through what the cores are built from.
pub(crate) fn check_runtime(metadata: &Metadata, tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in metadata.members() {
        let manifest = metadata.manifest(package);
        let direct = package
            .dependencies
            .iter()
            .filter(|dependency| is_runtime(&dependency.name));
        for dependency in direct.filter(|dependency| !dependency.is_dev()) {
            let name = &dependency.name;
            let line = tree.line_starting(&manifest, name);
            if !RUNTIME_OWNERS.contains(&package.name.as_str()) {
                let message = format!(
                    "`{}` must not depend on `{name}`; the runtime lives in {}",
                    package.name,
                    RUNTIME_OWNERS.join(", ")
                );
                violations.push(Violation::new(&manifest, line, "runtime", message));
            } else if package.name == "proto" && !dependency.optional && dependency.kind.is_none() {
                let message = format!("`{name}` must be optional, behind the feature `grpc`");
                violations.push(Violation::new(&manifest, line, "runtime", message));
            }
        }
        if CORES.contains(&package.name.as_str())
            && let Some(chain) = chain_to_runtime(metadata, package)
        {
            let message = format!(
                "a core is built from a runtime: {}; drop that dependency",
                chain.join(" -> ")
            );
            violations.push(Violation::new(&manifest, 0, "runtime", message));
        }
    }
    violations
}

/// Keeps out of the cores what would give them a clock, chance, a socket, a thread or a lock.
pub(crate) fn check_purity(metadata: &Metadata, tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let is_pure = |name: &str| CORES.contains(&name) && !NOT_PURE.contains(&name);
    for package in metadata.members().filter(|package| is_pure(&package.name)) {
        let manifest = metadata.manifest(package);
        let impure = package
            .dependencies
            .iter()
            .filter(|dependency| NOT_IN_CORES.contains(&dependency.name.as_str()));
        for dependency in impure.filter(|dependency| dependency.kind.is_none()) {
            let line = tree.line_starting(&manifest, &dependency.name);
            let message = format!(
                "the core `{}` must not depend on `{}`; take time, chance and datagrams as arguments",
                package.name, dependency.name
            );
            violations.push(Violation::new(&manifest, line, "purity", message));
        }
    }
    violations
}

fn is_runtime(name: &str) -> bool {
    const FAMILIES: &[&str] = &["tokio", "tonic", "hyper", "axum", "async-std", "smol", "reqwest"];
    // tonic-prost-build and its like generate code; they run nothing.
    let generates_code = name.ends_with("-build");
    let belongs_to = |family: &str| {
        name.strip_prefix(family)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    !generates_code && FAMILIES.iter().any(|family| belongs_to(family))
}

/// The shortest way from a package to a runtime through what it is built from.
///
/// What `proto` builds behind its feature is skipped: cargo resolves features for the whole workspace at
/// once, so a core's `proto` always seems to have it. The arrows see to it that no core asks for it.
fn chain_to_runtime<'a>(metadata: &'a Metadata, start: &'a Package) -> Option<Vec<&'a str>> {
    let built_from = metadata.built_from();
    let mut seen = BTreeSet::from([start.id.as_str()]);
    let mut front = vec![(start, vec![start.name.as_str()])];
    while !front.is_empty() {
        let mut next = Vec::new();
        for (package, chain) in front {
            for dependency in built_from.get(package.id.as_str()).into_iter().flatten().copied() {
                let only_with_feature = package.name == "proto" && is_optional(package, &dependency.name);
                if only_with_feature || !seen.insert(&dependency.id) {
                    continue;
                }
                let mut chain = chain.clone();
                chain.push(&dependency.name);
                if is_runtime(&dependency.name) {
                    return Some(chain);
                }
                next.push((dependency, chain));
            }
        }
        front = next;
    }
    None
}

fn is_optional(package: &Package, name: &str) -> bool {
    package
        .dependencies
        .iter()
        .any(|dependency| dependency.name == name && dependency.optional)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::fixture::workspace;

    fn messages(violations: Vec<Violation>) -> Vec<String> {
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_table_names_only_crates_that_have_a_line() {
        for (name, allowed) in ARROWS {
            for target in allowed.iter().filter(|target| **target != ANY) {
                let target = target.trim_end_matches("[grpc]");
                assert!(
                    ARROWS.iter().any(|(known, _)| *known == target),
                    "{name} -> {target}"
                );
            }
        }
    }

    #[test]
    fn arrows_in_the_table_pass() {
        let metadata = workspace(
            &[
                ("rtp", &["dev:noalloc"]),
                ("srtp", &["rtp"]),
                ("noalloc", &[]),
                ("proto", &[]),
                ("media-engine", &["srtp", "proto", "dev:netem"]),
                ("netem", &[]),
                ("mediad", &["media-engine", "proto[grpc]"]),
                ("bench", &["mediad"]),
            ],
            &[],
        );
        assert_eq!(check_arrows(&metadata, &Tree::default()), []);
    }

    #[test]
    fn arrows_outside_the_table_are_refused() {
        let metadata = workspace(
            &[
                ("rtp", &["codecs", "dev:media-engine", "noalloc"]),
                ("codecs", &[]),
                ("noalloc", &[]),
                ("media-engine", &["proto[grpc]"]),
                ("proto", &[]),
                ("gadget", &[]),
            ],
            &[],
        );
        let tree = Tree::of(&[("rtp/Cargo.toml", "[dependencies]\ncodecs.workspace = true\n")]);
        let messages = messages(check_arrows(&metadata, &tree));
        assert_eq!(messages.len(), 5, "{messages:#?}");
        assert!(
            messages[0].starts_with("rtp/Cargo.toml:2: [arrows] `rtp` must not depend on `codecs`;"),
            "{messages:#?}"
        );
        assert!(messages[1].contains("`media-engine` (dev)"));
        assert!(messages[2].contains("`rtp` must not depend on `noalloc`"));
        assert!(messages[3].contains("`media-engine` must not depend on `proto[grpc]`"));
        assert!(messages[4].contains("`gadget` has no line"));
    }

    #[test]
    fn the_runtime_stays_with_its_owners() {
        let metadata = workspace(
            &[
                ("mediad", &["tokio", "proto"]),
                ("proto", &["optional:tonic"]),
                ("media-engine", &["proto"]),
            ],
            &[("tokio", &[]), ("tonic", &["tokio"])],
        );
        assert_eq!(check_runtime(&metadata, &Tree::default()), []);
    }

    #[test]
    fn a_runtime_in_a_core_is_refused_also_when_hidden() {
        let metadata = workspace(
            &[
                ("sip", &["tokio-util"]),
                ("webrtc", &["ice"]),
                ("proto", &["tonic"]),
                ("rtp", &["dev:tokio"]),
            ],
            &[
                ("tokio-util", &[]),
                ("ice", &["sockets"]),
                ("sockets", &["tokio"]),
                ("tokio", &[]),
                ("tonic", &[]),
            ],
        );
        let messages = messages(check_runtime(&metadata, &Tree::default()));
        assert_eq!(messages.len(), 4, "{messages:#?}");
        assert!(messages[0].contains("`sip` must not depend on `tokio-util`"));
        assert!(messages[1].contains("sip -> tokio-util"));
        assert!(
            messages[2].contains("webrtc -> ice -> sockets -> tokio;"),
            "{messages:#?}"
        );
        assert!(messages[3].contains("`tonic` must be optional"));
    }

    #[test]
    fn chance_and_sockets_in_a_core_are_refused() {
        let metadata = workspace(
            &[
                ("rtp", &["rand", "dev:rand"]),
                ("media-net", &["socket2"]),
                ("mediad", &["libc"]),
            ],
            &[("rand", &[]), ("socket2", &[]), ("libc", &[])],
        );
        let tree = Tree::of(&[("rtp/Cargo.toml", "[dependencies]\nrand = \"0.10\"\n")]);
        let messages = messages(check_purity(&metadata, &tree));
        assert_eq!(messages.len(), 1, "{messages:#?}");
        assert!(
            messages[0].starts_with("rtp/Cargo.toml:2: [purity] the core `rtp` must not depend on `rand`")
        );
    }

    #[test]
    fn names_that_only_look_like_a_runtime_are_not() {
        assert!(is_runtime("tokio") && is_runtime("hyper-util") && is_runtime("tonic-health"));
        assert!(!is_runtime("tonic-prost-build") && !is_runtime("hyperloglog") && !is_runtime("tokioish"));
    }
}
