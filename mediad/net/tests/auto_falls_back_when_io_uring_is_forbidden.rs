//! A container that forbids io_uring (seccomp answers EPERM) gets the epoll backend and a reason for the log.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "installs a seccomp filter on a thread of its own"
)]

use media_net::{AnyBackend, Config, IoChoice, NetError, open};

/// Forbids `io_uring_setup` to the calling thread.
fn forbid_io_uring() {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = [
        // The system call's number is the first word of `seccomp_data`.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_io_uring_setup as u32,
        ),
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

#[test]
fn with_a_reason() {
    std::thread::spawn(|| {
        forbid_io_uring();
        let config = Config {
            max_sockets: 16,
            ..Config::default()
        };
        let (backend, reason) = open(IoChoice::Auto, &config).unwrap();
        assert!(matches!(backend, AnyBackend::Mmsg(_)));
        let expected = "io_uring: not permitted (seccomp or container policy); using epoll+sendmmsg";
        assert_eq!(reason.to_string(), expected);
        let refused = open(IoChoice::Uring, &config)
            .err()
            .expect("asked for io_uring or nothing");
        assert!(matches!(
            refused,
            NetError::Unavailable {
                backend: "io_uring",
                ..
            }
        ));
    })
    .join()
    .unwrap();
}
