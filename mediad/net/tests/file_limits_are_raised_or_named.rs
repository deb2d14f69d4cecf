//! Opening a backend raises the soft limit of open files to the hard one, and says what to do when that is too low.
//! Alone in its file: limits belong to the whole process.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "changes the limits of its process"
)]

use media_net::{Config, IoChoice, NetError, open};

fn limit() -> libc::rlimit {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for the kernel to write.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit
}

#[test]
fn soft_to_hard_and_no_further() {
    let low = libc::rlimit {
        rlim_cur: 128,
        rlim_max: 400,
    };
    // SAFETY: `low` is a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const low) }, 0);

    let refused = open(
        IoChoice::Auto,
        &Config {
            max_sockets: 400,
            ..Config::default()
        },
    )
    .err()
    .unwrap();
    assert!(
        matches!(
            refused,
            NetError::Limit {
                limit: "RLIMIT_NOFILE",
                have: 400,
                need: 464,
                ..
            }
        ),
        "{refused}"
    );
    assert!(refused.to_string().contains("LimitNOFILE="), "{refused}");

    open(
        IoChoice::Auto,
        &Config {
            max_sockets: 300,
            ..Config::default()
        },
    )
    .unwrap();
    assert_eq!(limit().rlim_cur, 400);
}
