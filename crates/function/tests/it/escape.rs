//! What a function tries and must not manage.

use function::sandbox::End;
use libtest_mimic::{Failed, Trial};

use crate::world::World;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("it_runs_and_says_how_it_ended", it_runs),
        Trial::test("it_sees_nothing_of_the_host", sees_nothing),
    ]
}

fn it_runs() -> Result<(), Failed> {
    let world = World::new();
    let ran = world.run("id; pwd; ls /; cat /proc/self/status | grep -E 'Cap|NoNew|Seccomp'; ls /proc | head -5; cat /proc/net/dev; mount | head -30; exit 3");
    println!("{} {:?} {:?}", ran.output, ran.end, ran.took);
    assert_eq!(ran.end, End::Exit(3), "{}", ran.output);
    Ok(())
}

fn sees_nothing() -> Result<(), Failed> {
    let world = World::new();
    let ran = world.run("ls /root /home /etc/shadow /work; unshare -Ur true; mount -t tmpfs x /tmp; echo hi > /usr/x; echo hi > /var/task/x; dd if=/dev/zero of=/tmp/full bs=1M count=64; timeout 1 bash -c 'echo > /dev/tcp/1.1.1.1/80'; exit 0");
    println!("{} {:?}", ran.output, ran.took);
    assert_eq!(ran.end, End::Exit(0));
    Ok(())
}
