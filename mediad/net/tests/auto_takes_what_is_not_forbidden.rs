//! A container that forbids bpf(2) or io_uring (seccomp answers EPERM) gets the next best backend and a reason for the log.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "installs a seccomp filter on a thread of its own"
)]

use media_net::{Config, IoChoice, NetError, open};

/// Forbids a system call to the calling thread.
fn forbid(call: libc::c_long) {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = [
        // The system call's number is the first word of `seccomp_data`.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        op(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: takes integers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program lives across the call; the kernel copies it.
    let rc = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}

/// What `Auto` opens on a thread that may not make `calls`, as the log tells it.
fn opened_without(calls: &'static [libc::c_long]) -> String {
    let told = std::thread::spawn(|| {
        calls.iter().for_each(|call| forbid(*call));
        let (_, reason) = open(IoChoice::Auto, &config()).unwrap();
        reason.to_string()
    });
    told.join().unwrap()
}

fn config() -> Config {
    Config {
        max_sockets: 16,
        ..Config::default()
    }
}

/// What this test's own privileges say about shared sockets when bpf(2) is forbidden.
fn no_sharing() -> String {
    match media_net::missing_capabilities() {
        missing if missing.is_empty() => {
            "shared: bpf(MAP_CREATE) is not permitted (seccomp or container policy)".to_owned()
        }
        // Somebody without CAP_NET_RAW does not come as far as bpf(2).
        _ => open(IoChoice::Shared, &config()).err().unwrap().to_string(),
    }
}

#[test]
fn with_a_reason() {
    let uring = format!("{}; using io_uring", no_sharing());
    assert_eq!(opened_without(&[libc::SYS_bpf]), uring);
    let epoll = format!(
        "{}; io_uring: not permitted (seccomp or container policy); using epoll+sendmmsg",
        no_sharing()
    );
    assert_eq!(opened_without(&[libc::SYS_bpf, libc::SYS_io_uring_setup]), epoll);
    if media_net::missing_capabilities().is_empty() {
        let shared = "ports can be shared here; using sk_lookup+sendmmsg";
        assert_eq!(opened_without(&[libc::SYS_io_uring_setup]), shared);
    }
}

#[test]
fn or_nothing_when_one_is_asked_for() {
    let told = std::thread::spawn(|| {
        forbid(libc::SYS_bpf);
        forbid(libc::SYS_io_uring_setup);
        [IoChoice::Shared, IoChoice::Uring].map(|choice| match open(choice, &config()).err() {
            Some(NetError::Unavailable { backend, .. }) => backend,
            other => panic!("{choice:?}: {other:?}"),
        })
    });
    assert_eq!(told.join().unwrap(), ["shared", "io_uring"]);
}
