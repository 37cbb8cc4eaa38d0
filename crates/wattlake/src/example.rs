//! The example warehouse's files, by name with their contents.

pub const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/example.rs"));

/// Those of the billing flow: all that is no transfer's.
pub fn billing() -> impl Iterator<Item = (&'static str, &'static str)> {
    const FOLDERS: [&str; 9] = [
        "controls/",
        "functions/",
        "ingests/",
        "layers/",
        "layouts/",
        "loads/",
        "marts/billing/",
        "statements/",
        "templates/",
    ];
    FILES.iter().copied().filter(|(name, _)| FOLDERS.iter().any(|folder| name.starts_with(folder)))
}
