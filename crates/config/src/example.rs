//! The files of the example warehouse, built into the program.

/// Paths relative to the warehouse, each with its content.
pub const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/example.rs"));

/// The files of the billing flow only: no transfer and no mart that reads the platform's tables.
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
