//! A test that forgot `#[global_allocator]` would count zero for any code; it must fail instead.

#[test]
fn a_binary_without_the_allocator_is_refused() {
    let failure = std::panic::catch_unwind(|| noalloc::assert_none("anything", || ()));
    let failure = failure.expect_err("this binary has the default allocator");
    let message = failure
        .downcast_ref::<&str>()
        .expect("a message without arguments");
    assert!(message.contains("#[global_allocator]"), "{message}");
}
