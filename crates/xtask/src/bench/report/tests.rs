use super::*;

fn run(contender: &'static str, table: &'static str, wall_s: f64) -> Run {
    let (cpu_s, rss_max_mib, bytes) = (Some(wall_s / 2.0), Some(100.0 * wall_s), Some(2_000_000));
    Run { contender, table, round: 1, wall_s, cpu_s, rss_max_mib, inside_s: None, bytes, rows: Some(1) }
}

fn runs() -> Vec<Run> {
    [4.0, 1.0, 2.0]
        .into_iter()
        .flat_map(|s| [run("duckdb", "wide", s * 2.0), run("wattlake", "measures", s), run("wattlake", "wide", s)])
        .collect()
}

#[test]
fn the_median_of_odd_and_even_counts() {
    assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
    assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    assert_eq!(Spread::of([]), None);
}

#[test]
fn ratios_only_within_a_table_and_of_medians() {
    assert_eq!(ratios(&summaries(&runs())), [("wide", "wattlake", "duckdb", 0.5)]);
}

#[test]
fn the_page_shows_each_contender_with_its_worst_memory() {
    let result = json!({"date": "2026-01-02", "commit": "abc", "profile": "dev",
        "machine": {"cores": 2, "cpu": "AMD EPYC", "memory_gib": 24, "os": "Debian"}, "versions": {"duckdb": "1.5.5"},
        "tables": {"wide": {"rows": 7, "columns": 16, "bytes": 3_000_000}}});
    let page = markdown(&result, &summaries(&runs()));
    assert!(page.contains("| wattlake | 2.00 | 1.00 | 4.00 | - | 1.00 | 400 | 2.0 |"), "{page}");
    assert!(page.contains("7 rows, 16 columns, 3 MB."), "{page}");
    assert!(page.contains("| wide | wattlake | duckdb | 0.50 |"), "{page}");
    assert!(page.find("## bench.measures") < page.find("## bench.wide"), "{page}");
}

#[test]
fn a_machine_by_its_cores_and_processor() {
    let machine = json!({"cores": 8, "cpu": "Intel(R) Xeon(R) CPU @ 2.20GHz and more words"});
    assert_eq!(machine_slug(&machine), "8-cores-intel-r-xeon-r");
}
