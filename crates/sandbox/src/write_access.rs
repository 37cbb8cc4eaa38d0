//! Where the programs of a sandbox may write, repeated by Landlock, where the kernel has it: the mounts say the same, so that
//! a fault in one of the two is not enough. See landlock(7).

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
};

use super::Mount;

/// The folders of a sandbox that its programs may write to, where it has them, beside its writable mounts.
const WRITABLE: [&str; 4] = ["/tmp", "/dev", "/proc", "/results"];

/// Restricts this thread, and all processes that it starts.
pub(super) fn restrict(mounts: &[Mount]) -> Result<(), RulesetError> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    // Before Linux 5.19 Landlock refuses to move a file to another folder, also within /tmp.
    let Ok(ruleset) = ruleset.handle_access(AccessFs::Refer) else { return Ok(()) };
    let writes = AccessFs::from_write(ABI::V5);
    let mut ruleset = ruleset.set_compatibility(CompatLevel::BestEffort).handle_access(writes)?.create()?;
    let mounts = mounts.iter().filter(|mount| mount.is_writable).map(|mount| mount.at.as_path());
    for folder in WRITABLE.iter().map(std::path::Path::new).chain(mounts) {
        if let Ok(opened) = PathFd::new(folder) {
            ruleset = ruleset.add_rule(PathBeneath::new(opened, writes))?;
        }
    }
    ruleset.restrict_self()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::path::Path;

    use landlock::{AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};

    use super::restrict;

    #[test]
    fn a_restricted_thread_writes_in_its_folders_only() {
        let own = Path::new("/tmp").join(format!("wattlake-write-access-{}", std::process::id()));
        let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("write-access");
        let outcome = std::thread::spawn(move || {
            let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
            let is_supported = strict.handle_access(AccessFs::Refer).is_ok_and(|ruleset| ruleset.create().is_ok());
            restrict(&[]).unwrap();
            let written = File::create(&own).and_then(|_| fs::remove_file(&own)).is_ok();
            let refused = File::create(&other).err().map(|error| error.kind());
            if refused.is_none() {
                fs::remove_file(&other).unwrap();
            }
            (is_supported, written, refused)
        });
        let (is_supported, written, refused) = outcome.join().unwrap();
        assert!(written);
        assert_eq!(refused, is_supported.then_some(ErrorKind::PermissionDenied));
    }
}
