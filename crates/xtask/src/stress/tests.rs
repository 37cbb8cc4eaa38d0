use super::failures;

#[test]
fn each_failed_test_is_named_once() {
    let output = "test a::b ... ok\ntest warm::idle ... FAILED\ntest a::c ... ignored\n\nfailures:\n    warm::idle\n\
        test result: FAILED. 1 passed; 1 failed\ntest warm::idle ... FAILED\ntest read::x - should panic ... FAILED\n\
        error: 1 target failed:\n    `-p function --test it`\n";
    assert_eq!(failures(output), ["read::x - should panic", "warm::idle"]);
}

#[test]
fn a_program_that_ends_early_is_named_in_place_of_its_tests() {
    let output = "test a::b ... ok\nerror: test failed, to rerun pass `-p lake --lib`\n\
        error: 1 target failed:\n    `-p lake --lib`\n";
    assert_eq!(failures(output), ["-p lake --lib"]);
    assert_eq!(failures("error: no such command"), ["the suite as a whole"]);
}
