//! What a function must not be able to do in its sandbox.

use libtest_mimic::{Failed, Trial};
use sandbox::{End, Mount, Spec};

use crate::world::World;

/// Set where this process may create control groups.
pub const EXPECTS_GROUPS: &str = "WATTLAKE_TEST_EXPECTS_GROUPS";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("it_runs_and_reports_how_it_ended", it_runs),
        trial("it_has_no_capabilities_and_can_gain_none", no_capabilities),
        trial("it_sees_no_file_of_the_host", no_host_files),
        trial("it_does_not_see_where_its_files_are_on_the_host", no_host_paths),
        trial("it_writes_nowhere_but_tmp", writes_nowhere),
        trial("it_reaches_no_network", no_network),
        trial("a_fork_bomb_stays_inside", fork_bomb),
        trial("it_sees_only_its_own_processes", own_processes),
        trial("it_makes_no_namespaces_and_mounts_nothing", no_namespaces),
        trial("it_holds_nothing_of_the_host_open", nothing_open),
        trial("it_can_do_nothing_to_its_first_process", first_process),
        trial("a_full_tmp_does_not_affect_others", full_tmp),
        trial("tmp_has_a_size_of_its_own", tmp_is_not_memory),
        trial("its_control_group_is_its_own", groups_are_used),
        trial("a_process_that_left_its_session_ends_with_it", left_session),
        trial("it_opens_sockets_of_few_families", socket_families),
        trial("it_makes_no_system_calls_but_those_of_a_list", system_calls),
        trial("it_sees_no_private_keys", private_keys),
        trial("its_sh_is_bash", sh_is_bash),
        trial("a_missing_bootstrap_is_reported", no_bootstrap),
    ]
}

fn trial(name: &str, test: fn(&World)) -> Trial {
    Trial::test(format!("escape::{name}"), move || -> Result<(), Failed> {
        test(&World::new());
        Ok(())
    })
}

fn it_runs(world: &World) {
    let ran = world.run("echo $((40 + 2)) in $PWD; exit 3");
    assert_eq!((ran.end, ran.output.as_str()), (End::Exit(3), "42 in /var/task\n"));
    assert_eq!(world.run("kill -TERM $$").end, End::Signal(15));
}

fn no_capabilities(world: &World) {
    let ran = world.run("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status");
    for line in ran.output.lines() {
        let (name, value) = line.split_once(":\t").expect("a field");
        let expected = match name {
            "NoNewPrivs" => "1",
            "Seccomp" => "2",
            _ => "0000000000000000",
        };
        assert_eq!(value, expected, "{name}");
    }
    assert_eq!(ran.output.lines().count(), 7);
    let ran = world.run("chown 1 /tmp; id -u; find / -xdev -perm -4000 -exec {} --version \\; 2>&1 | grep -ci root");
    assert!(ran.output.contains("chown: changing ownership"), "{}", ran.output);
}

fn no_host_files(world: &World) {
    let secret = world.folder.path().join("secret");
    std::fs::write(&secret, "of the host").expect("a file");
    let text = format!("cat {} /etc/shadow /proc/1/environ; ls /root /home /work; echo done", secret.display());
    let ran = world.run(&text);
    assert!(ran.output.ends_with("done\n"), "{}", ran.output);
    assert!(!ran.output.contains("of the host"), "{}", ran.output);
    assert_eq!(ran.output.matches("No such file").count(), 5, "{}", ran.output);
}

fn no_host_paths(world: &World) {
    // A mount below the layers, and one that may be written.
    let at = |name: &str| world.folder.path().join(name);
    for name in ["model", "written"] {
        std::fs::create_dir(at(name)).expect("a folder");
    }
    std::fs::write(at("model/weights"), "1").expect("a file");
    std::fs::write(at("opt/library"), "2").expect("a file");
    let mount = |from, to: &str, is_writable| Mount { from, at: to.into(), is_writable };
    let mounts = vec![mount(at("model"), "/opt/ml/model", false), mount(at("written"), "/opt/ml/output", true)];
    let spec = Spec { mounts, ..world.spec() };
    if spec.user.is_some() {
        std::os::unix::fs::chown(at("written"), spec.user, spec.user).expect("the owner");
    }
    let ran = world.run_as(
        "cat /opt/library /opt/ml/model/weights; ls /opt; echo done > /opt/ml/output/x && cat /opt/ml/output/x; \
         (echo x > /opt/ml/model/x) 2>/dev/null || echo read-only; grep -E ' /(var/task|opt|opt/ml/model) ' /proc/self/mountinfo",
        &spec,
    );
    assert!(ran.output.starts_with("21library\nml\ndone\nread-only\n"), "{}", ran.output);
    // Where the kernel lets nobody mount overlays, the folders are bound.
    if ran.output.contains(" - overlay ") {
        let folder = world.folder.path().display().to_string();
        assert!(!ran.output.contains(&folder), "{}", ran.output);
    }
}

fn writes_nowhere(world: &World) {
    let places = "/x /usr/x /opt/x /var/task/x /etc/x /proc/sys/kernel/hostname /dev/x";
    let ran = world
        .run(&format!("for p in {places}; do (echo x > $p) && echo wrote $p; done; echo ok > /tmp/x && cat /tmp/x"));
    assert!(!ran.output.contains("wrote"), "{}", ran.output);
    assert!(ran.output.ends_with("ok\n"));
    let ran = world.run("dd if=/dev/zero of=/tmp/full bs=1M count=64; ls -s /tmp/full");
    assert!(ran.output.contains("No space left on device"), "{}", ran.output);
}

fn no_network(world: &World) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    let ran = world.run(&format!(
        "for to in 127.0.0.1/{port} 1.1.1.1/53 169.254.169.254/80; do (echo > /dev/tcp/$to) && echo reached $to; done; ls /sys/class/net 2>/dev/null; echo done"
    ));
    assert!(!ran.output.contains("reached"), "{}", ran.output);
    assert!(ran.output.ends_with("done\n"));
}

fn socket_families(world: &World) {
    let ran = world.run(
        "python3 -c 'import socket\nfor family in (1, 2, 10, 16, 15, 17, 30, 31, 33, 38, 40, 41, 44):\n try: socket.socket(family, 3 if family in (15, 16, 17) else 1).close(); print(family, \"opened\")\n except OSError as error: print(family, error.errno)'",
    );
    for line in ran.output.lines() {
        let (family, outcome) = line.split_once(' ').expect("a family");
        match family {
            "1" | "2" | "10" | "16" => assert_eq!(outcome, "opened", "{line}"),
            _ => assert_eq!(outcome, "1", "not refused by the filter: {line}"),
        }
    }
    assert_eq!(ran.output.lines().count(), 13, "{}", ran.output);
}

fn system_calls(world: &World) {
    // getpid, and by x32's numbers; ptrace, io_uring_setup; kcmp, syslog, mbind, which are on no list.
    let calls = if cfg!(target_arch = "x86_64") {
        "(39, 0x40000000 | 39, 101, 425, 312, 103, 237)"
    } else {
        "(172, 0x40000000 | 172, 117, 425, 272, 116, 235)"
    };
    let ran = world.run(&format!(
        "python3 -c 'import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nfor call in {calls}:\n ctypes.set_errno(0); print(libc.syscall(call, 0, 0, 0, 0, 0) > 0, ctypes.get_errno())'"
    ));
    let expected = "True 0\nFalse 38\nFalse 1\nFalse 1\nFalse 38\nFalse 38\nFalse 38\n";
    assert_eq!(ran.output, expected);
}

fn private_keys(world: &World) {
    let ran = world
        .run("ls /etc/ssl; ls /etc/ssl/certs | wc -l; cat /etc/ssl/private/* 2>/dev/null && echo got it; echo done");
    assert!(!ran.output.contains("private") && !ran.output.contains("got it"), "{}", ran.output);
    assert!(ran.output.ends_with("done\n"), "{}", ran.output);
}

fn fork_bomb(world: &World) {
    // In the shell alone, which can't start `sleep` any more.
    world.run("b() { b | b & }; b; SECONDS=0; while (( SECONDS < 2 )); do :; done; exit 0");
    let user = world.user;
    let mine = |entry: &std::fs::DirEntry| {
        use std::os::unix::fs::MetadataExt;
        entry.metadata().is_ok_and(|meta| meta.uid() == user)
    };
    let left = std::fs::read_dir("/proc").expect("/proc").flatten().filter(mine).count();
    assert_eq!(left, 0, "all of it went with the sandbox");
}

fn own_processes(world: &World) {
    let ran = world.run("ls -d /proc/[0-9]* | wc -l; kill -9 1; echo still here");
    let count: u32 = ran.output.lines().next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(count < 10, "{}", ran.output);
    assert!(ran.output.contains("still here"));
}

fn no_namespaces(world: &World) {
    let ran = world.run(
        "unshare -Ur true && echo made; unshare -m true && echo made; mount -t tmpfs x /tmp && echo made; echo done",
    );
    assert!(!ran.output.contains("made"), "{}", ran.output);
    assert!(ran.output.ends_with("done\n"));
}

fn nothing_open(world: &World) {
    let secret = world.folder.path().join("secret");
    std::fs::write(&secret, "of the host").expect("a file");
    let leaks = std::fs::File::open(&secret).expect("a file");
    rustix::io::fcntl_setfd(&leaks, rustix::io::FdFlags::empty()).expect("a file that programs inherit");
    let ran = world.run("ls -l /proc/self/fd | grep -o '[0-9]* -> .*'; cut -d' ' -f5 /proc/self/mountinfo");
    let open: Vec<_> = ran.output.lines().filter_map(|line| line.split_once(" -> ")).collect();
    assert!(open.contains(&("0", "/dev/null")), "{}", ran.output);
    for (number, what) in &open {
        assert!(number.parse::<u32>().is_ok_and(|n| n <= 2) || what.ends_with("/fd"), "{number} {what}");
    }
    let mounts = ["/usr", "/etc", "/dev", "/proc", "/tmp", "/var/task", "/opt", "/bin", "/sbin", "/lib", "/lib64"];
    let below =
        |at: &str, mount: &str| at.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let known = |at: &str| at == "/" || mounts.iter().any(|mount| below(at, mount));
    for at in ran.output.lines().filter(|line| line.starts_with('/')) {
        assert!(known(at) && !at.contains(&*world.folder.path().to_string_lossy()), "{at}");
    }
}

fn first_process(world: &World) {
    let ran = world.run(
        "kill -9 1; kill -STOP 1; for f in mem maps environ fd/0; do head -c1 /proc/1/$f > /dev/null 2>&1 && echo read $f; done; \
         echo x 2>/dev/null > /proc/1/mem && echo wrote; echo done",
    );
    assert!(ran.output.ends_with("done\n"), "{}", ran.output);
    for word in ["read", "wrote"] {
        assert!(!ran.output.contains(word), "{}", ran.output);
    }
    assert_eq!(ran.end, End::Exit(0));
}

fn full_tmp(world: &World) {
    let other = World::new();
    let script = "i=0; while head -c 1m /dev/zero > /tmp/$i 2>/dev/null; do (( ++i > 99 )) && break; done; echo $i; \
        i=0; while : 2>/dev/null > /dev/shm/$i; do (( ++i > 19999 )) && break; done; echo $i";
    let ran = world.run(script);
    let counts: Vec<u32> = ran.output.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(counts.len() == 2 && counts[0] <= 16 && counts[1] <= 16384, "{}", ran.output);
    assert_eq!(other.run("echo x > /tmp/x && cat /tmp/x").output, "x\n");
}

fn tmp_is_not_memory(world: &World) {
    let mut spec = world.spec();
    spec.limits.tmp_mb = 300;
    let fills = "head -c 200m /dev/zero > /tmp/large && stat -c %s /tmp/large";
    let ran = world.run_as(fills, &spec);
    assert_eq!((ran.end, ran.output.as_str()), (End::Exit(0), "209715200\n"));
    // The memory of processes counts. It grows slowly: without a control group it is looked at ten times a second, and a
    // process that grows faster gets no more memory at twice the limit.
    let grows = "y=$(head -c 1000000 /dev/zero | tr '\\0' x); while :; do x+=$y; sleep 0.02; done";
    assert_eq!(world.run_as(grows, &spec).end, End::OutOfMemory);
}

fn groups_are_used(world: &World) {
    if std::env::var_os(EXPECTS_GROUPS).is_some() {
        assert!(sandbox::Launcher::has_control_groups());
        let ran = world.run("cat /proc/self/cgroup");
        assert!(ran.output.contains(&format!("/{}-", std::process::id())), "{}", ran.output);
    }
}

fn left_session(world: &World) {
    // A time that no other test's program sleeps.
    let begins = format!("for n in 1 2 3; do (setsid nohup sleep {} > /dev/null 2>&1 &); done", world.user);
    let ran = world.run(&format!("{begins}; sleep 0.1; ls /proc/*/cmdline | wc -l; exit 0"));
    let seen: u32 = ran.output.trim().parse().expect("a number");
    assert!(seen > 4, "they had begun: {seen}");
    assert_eq!(ran.end, End::Exit(0));
    let seconds = world.user.to_string();
    let sleeps = |process: &std::fs::DirEntry| {
        let expected = format!("sleep\0{seconds}\0");
        std::fs::read(process.path().join("cmdline")).is_ok_and(|line| line == expected.as_bytes())
    };
    assert_eq!(std::fs::read_dir("/proc").expect("/proc").flatten().filter(sleeps).count(), 0);
}

fn sh_is_bash(world: &World) {
    let ran = world.run("/bin/sh -c 'set -o pipefail && echo yes'; sh -c 'set -o pipefail && echo too'");
    assert_eq!(ran.output, "yes\ntoo\n");
}

fn no_bootstrap(world: &World) {
    let mut spec = world.spec();
    spec.programs = vec!["/opt/bootstrap".into()];
    let error = world.launch("echo", &spec).expect_err("no bootstrap");
    assert_eq!(error.kind, function::Kind::FixInput);
    assert!(error.to_string().contains("find its bootstrap"), "{error}");
}
