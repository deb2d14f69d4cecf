//! The few bpf(2) calls that steering needs, and an assembler for its one small program.
//!
//! A loader library would bring an ELF reader and want a compiler for the program; here are two maps, 40
//! instructions and one link.

use crate::NetError;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Map types of `enum bpf_map_type`.
pub(crate) const HASH: u32 = 1;
pub(crate) const SOCKMAP: u32 = 15;

/// `BPF_F_NO_PREALLOC`: entries take memory when they come.
pub(crate) const NO_PREALLOC: u32 = 1;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const MAP_DELETE: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

/// `BPF_PROG_TYPE_SK_LOOKUP` and `BPF_SK_LOOKUP`, Linux 5.9.
const TYPE_SK_LOOKUP: u32 = 30;
const ATTACH_SK_LOOKUP: u32 = 36;

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct MapElement {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// One call; `attribute` is the part of `union bpf_attr` that the command reads.
fn call<A>(command: libc::c_int, attribute: &A, op: &'static str) -> Result<libc::c_long, NetError> {
    let pointer: *const A = attribute;
    // SAFETY: the kernel reads `size_of::<A>()` bytes of a `repr(C)` value without padding, and what its pointers lead to
    // lives in the caller across the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<A>()) };
    if result < 0 {
        Err(NetError::last(op))
    } else {
        Ok(result)
    }
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the descriptor was just returned by the kernel and has no other owner.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

/// A map from `K` to `V`, both plain integers or arrays of them.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    fd: OwnedFd,
    _types: std::marker::PhantomData<fn(K, V)>,
}

impl<K, V> Map<K, V> {
    pub(crate) fn create(
        map_type: u32,
        max_entries: u32,
        flags: u32,
        called: &str,
    ) -> Result<Self, NetError> {
        let attribute = MapCreate {
            map_type,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries,
            flags,
            inner_map_fd: 0,
            numa_node: 0,
            name: name(called),
        };
        Ok(Map {
            fd: owned(call(MAP_CREATE, &attribute, "bpf(MAP_CREATE)")?),
            _types: std::marker::PhantomData,
        })
    }

    pub(crate) fn set(&self, key: &K, value: &V) -> Result<(), NetError> {
        call(
            MAP_UPDATE,
            &self.element(key, Some(value)),
            "bpf(MAP_UPDATE_ELEM)",
        )
        .map(|_| ())
    }

    pub(crate) fn remove(&self, key: &K) -> Result<(), NetError> {
        call(MAP_DELETE, &self.element(key, None), "bpf(MAP_DELETE_ELEM)").map(|_| ())
    }

    fn element(&self, key: &K, value: Option<&V>) -> MapElement {
        MapElement {
            map_fd: self.fd.as_raw_fd() as u32,
            _pad: 0,
            key: std::ptr::from_ref(key) as u64,
            value: value.map_or(0, |value| std::ptr::from_ref(value) as u64),
            flags: 0,
        }
    }
}

/// A `sk_lookup` program in force in a network namespace, until it is dropped.
#[derive(Debug)]
pub(crate) struct SkLookup {
    _program: OwnedFd,
    _link: OwnedFd,
}

impl SkLookup {
    /// Loads `program` and puts it in force in this thread's network namespace.
    pub(crate) fn attach(program: &Program, called: &str) -> Result<Self, NetError> {
        let load = ProgramLoad {
            program_type: TYPE_SK_LOOKUP,
            instruction_count: program.0.len() as u32,
            instructions: program.0.as_ptr() as u64,
            // None of the helpers used asks for the GPL.
            license: c"MIT OR Apache-2.0".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buffer: 0,
            kernel_version: 0,
            flags: 0,
            name: name(called),
            interface: 0,
            expected_attach_type: ATTACH_SK_LOOKUP,
        };
        let loaded = owned(call(PROG_LOAD, &load, "bpf(PROG_LOAD)")?);
        let namespace = File::open("/proc/thread-self/ns/net").map_err(|source| NetError::Io {
            op: "open(/proc/thread-self/ns/net)",
            source,
        })?;
        let link = LinkCreate {
            program_fd: loaded.as_raw_fd() as u32,
            target_fd: namespace.as_raw_fd() as u32,
            attach_type: ATTACH_SK_LOOKUP,
            flags: 0,
        };
        let link = owned(call(LINK_CREATE, &link, "bpf(LINK_CREATE)")?);
        Ok(SkLookup {
            _program: loaded,
            _link: link,
        })
    }
}

/// Instructions as the kernel reads them (`struct bpf_insn`).
pub(crate) struct Program(Vec<u64>);

/// The registers: results, arguments 1 to 3, kept over calls, and the frame.
pub(crate) const R0: u8 = 0;
pub(crate) const R1: u8 = 1;
pub(crate) const R2: u8 = 2;
pub(crate) const R3: u8 = 3;
pub(crate) const R6: u8 = 6;
pub(crate) const R7: u8 = 7;
pub(crate) const FRAME: u8 = 10;

/// Helper functions of `enum bpf_func_id`.
pub(crate) const MAP_LOOKUP: i32 = 1;
pub(crate) const SK_RELEASE: i32 = 86;
pub(crate) const SK_ASSIGN: i32 = 124;

/// A jump whose target is not known yet.
#[must_use]
pub(crate) struct Jump(usize);

impl Program {
    pub(crate) fn new() -> Self {
        Program(Vec::new())
    }

    fn push(&mut self, op: u8, to: u8, from: u8, offset: i16, value: i32) {
        let registers = u64::from(to | from << 4);
        let offset = u64::from(offset as u16);
        let value = u64::from(value as u32);
        self.0
            .push(u64::from(op) | registers << 8 | offset << 16 | value << 32);
    }

    /// `to = *(u32 *)(from + offset)`
    pub(crate) fn load(&mut self, to: u8, from: u8, offset: i16) {
        self.push(0x61, to, from, offset, 0);
    }

    /// `*(u32 *)(to + offset) = from`
    pub(crate) fn store(&mut self, to: u8, offset: i16, from: u8) {
        self.push(0x63, to, from, offset, 0);
    }

    /// `*(u32 *)(to + offset) = value`
    pub(crate) fn store_value(&mut self, to: u8, offset: i16, value: i32) {
        self.push(0x62, to, 0, offset, value);
    }

    /// `to = from`
    pub(crate) fn copy(&mut self, to: u8, from: u8) {
        self.push(0xbf, to, from, 0, 0);
    }

    /// `to = value`
    pub(crate) fn set(&mut self, to: u8, value: i32) {
        self.push(0xb7, to, 0, 0, value);
    }

    /// `to += value`
    pub(crate) fn add(&mut self, to: u8, value: i32) {
        self.push(0x07, to, 0, 0, value);
    }

    /// `to |= value`
    pub(crate) fn or(&mut self, to: u8, value: i32) {
        self.push(0x47, to, 0, 0, value);
    }

    /// `to = map`
    pub(crate) fn set_map<K, V>(&mut self, to: u8, map: &Map<K, V>) {
        const MAP_FD: u8 = 1;
        self.push(0x18, to, MAP_FD, 0, map.fd.as_raw_fd());
        self.push(0, 0, 0, 0, 0);
    }

    pub(crate) fn call(&mut self, helper: i32) {
        self.push(0x85, 0, 0, 0, helper);
    }

    pub(crate) fn exit(&mut self) {
        self.push(0x95, 0, 0, 0, 0);
    }

    pub(crate) fn jump(&mut self) -> Jump {
        self.push(0x05, 0, 0, 0, 0);
        Jump(self.0.len() - 1)
    }

    pub(crate) fn jump_if_equal(&mut self, register: u8, value: i32) -> Jump {
        self.push(0x15, register, 0, 0, value);
        Jump(self.0.len() - 1)
    }

    pub(crate) fn jump_if_not_equal(&mut self, register: u8, value: i32) -> Jump {
        self.push(0x55, register, 0, 0, value);
        Jump(self.0.len() - 1)
    }

    /// The jumps lead here.
    pub(crate) fn land(&mut self, jumps: impl IntoIterator<Item = Jump>) {
        for Jump(from) in jumps {
            let offset = (self.0.len() - from - 1) as u64;
            self.0[from] |= offset << 16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_laid_out_as_the_kernel_reads_them() {
        let mut program = Program::new();
        program.load(R2, R1, 12);
        let jump = program.jump_if_not_equal(R2, 17);
        program.store(FRAME, -8, R2);
        program.land([jump]);
        program.exit();
        // struct bpf_insn { u8 code; u8 dst:4, src:4; s16 off; s32 imm; }, little endian.
        let bytes: Vec<[u8; 8]> = program.0.iter().map(|word| word.to_le_bytes()).collect();
        assert_eq!(
            bytes,
            [
                [0x61, 0x12, 12, 0, 0, 0, 0, 0],
                [0x55, 0x02, 1, 0, 17, 0, 0, 0],
                [0x63, 0x2a, 0xf8, 0xff, 0, 0, 0, 0],
                [0x95, 0, 0, 0, 0, 0, 0, 0],
            ]
        );
    }
}
