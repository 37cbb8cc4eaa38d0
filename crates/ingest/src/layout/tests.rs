use arrow::datatypes::DataType;

use super::{Ambiguous, Coverage, Encoding, FaultPolicy, Format, Layout, Step, Type};

fn problems(text: &str) -> Vec<String> {
    Layout::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

const SMALL: &str = "format = 'csv'\n[columns.a]\ntype = 'integer'\n";

#[test]
fn a_complete_layout() {
    let layout = Layout::parse(crate::read::tests::BILLS).unwrap();
    let Format::Csv(csv) = &layout.format else { panic!() };
    assert_eq!((csv.separator, csv.encoding, csv.header, csv.preamble.skip_lines), (b';', Encoding::Auto, true, 0));
    let names: Vec<&str> = layout.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names[..3], ["schema_version", "producteur_id", "prm"], "in the order of the text");
    let energy = &layout.columns[5];
    assert_eq!(
        (energy.headers.as_slice(), energy.number_format.decimal),
        (["energie_injectee_kwh".to_owned()].as_slice(), ',')
    );
    assert_eq!(layout.key, [2, 3]);
    assert!(layout.columns[3].required, "a key's column has a value");
    let series = layout.series.as_ref().unwrap();
    assert_eq!((series.time, &series.step, series.covers), (3, &Step::Column(4), Coverage::Days));
    assert_eq!((layout.trailers[0].count, layout.trailers[0].sums[0].column), (Some(2), 5));
    assert_eq!(layout.policy, FaultPolicy::QuarantineFile);
    let schema = layout.schema();
    assert_eq!(schema.field_with_name("disponibilite_pct").unwrap().data_type(), &DataType::Decimal128(4, 1));
    assert!(!schema.field_with_name("prm").unwrap().is_nullable());
}

#[test]
fn zones_are_inherited() {
    let text = "format='csv'\nzone='Europe/Paris'\nambiguous='in-order'\n[columns.a]\ntype='timestamp'\n\
                [columns.b]\ntype='timestamp'\nzone='UTC'\n[columns.c]\ntype='timestamp'\nambiguous='second'";
    let zones: Vec<_> = Layout::parse(text).unwrap().columns.into_iter().map(|column| column.kind).collect();
    let is = |at: usize, zone: &str, rule| matches!(&zones[at], Type::Timestamp { zone: Some(z), .. } if z.zone.name() == zone && z.ambiguous == rule);
    assert!(is(0, "Europe/Paris", Ambiguous::InOrder), "{zones:?}");
    assert!(is(1, "UTC", Ambiguous::InOrder), "{zones:?}");
    assert!(is(2, "Europe/Paris", Ambiguous::Second), "{zones:?}");
}

#[test]
fn problems_have_a_place_and_a_hint() {
    let cases = [
        (
            "format = 'csw'\n[columns.a]\ntype = 'text'",
            "1:10: unknown format \"csw\": expected one of \"csv\", \"xlsx\", \"xls\", \"ods\", \"json\", \"ndjson\", \"parquet\", \"xml\"; nearest: \"csv\"",
        ),
        ("[columns.a]\ntype = 'text'", "1:1: the layout has no \"format\"; one of"),
        ("format = 'csv'", "1:1: the layout has no columns; write one [columns.NAME]"),
        (
            "format = 'csv'\nseperator = ';'\n[columns.a]\ntype='text'",
            "2:1: unknown key \"seperator\"; nearest known key: \"separator\"",
        ),
        (
            "format = 'csv'\n[columns.a]\ntipe = 'text'",
            "3:1: unknown key \"tipe\" in [columns.a]; nearest known key: \"type\"",
        ),
        ("format = 'csv'\n[columns.a]\ntype = 'decimal(39,2)'", "3:8: unknown type \"decimal(39,2)\""),
        ("format = 'csv'\n[columns.a]\ntype = 'interger'", "nearest: \"integer\""),
        ("format = 'csv'\nkey = ['b']\n[columns.a]\ntype = 'text'", "2:8: there is no column \"b\"; nearest: \"a\""),
        (
            "format = 'csv'\nzone = 'Europe/Pariss'\n[columns.a]\ntype = 'text'",
            "2:8: unknown time zone \"Europe/Pariss\"; nearest: \"Europe/Paris\"",
        ),
        ("format = 'csv'\n[columns.a]\ntype = 'text'\npattern = '['", "4:11: \"pattern\": not a regular expression"),
        ("format = 'csv'\n[columns.a]\ntype = 'text'\nmin = 1", "4:7: \"min\" is for columns of numbers"),
        ("format = 'csv'\n[columns.a]\ntype = 'integer'\nmin = 2\nmax = 1", "\"max\" is less than \"min\""),
        ("format = 'csv'\n[columns.a]\ntype = 'enum'", "[columns.a] is an enum without \"values\""),
        ("format = 'csv'\n[columns.a]\ntype = 'date'\nformat = '%Q'", "4:10: \"format\": \"%Q\" is not valid"),
        (
            "format = 'csv'\ndecimal = ','\nthousands = ','\n[columns.a]\ntype = 'integer'",
            "3:13: \"thousands\" is the same as the decimal mark",
        ),
        (
            "format = 'json'\nseparator = ';'\n[columns.a]\ntype = 'text'",
            "2:13: \"separator\" does not apply to this format",
        ),
        (
            "format = 'csv'\n[columns.a]\ntype = 'text'\n[columns.b]\ntype = 'text'\nheader = 'a'",
            "4:10: \"a\" and \"b\" have the same header",
        ),
        ("format = 'csv'\n[faults]\npolicy = 'aside'\n[columns.a]\ntype = 'text'", "has no \"share_max\""),
        (
            "format = 'csv'\n[series]\ntime = 'a'\nstep = 'PT0S'\nzone = 'UTC'\n[columns.a]\ntype = 'text'",
            "a step: expected PT1S to PT24H",
        ),
        ("format = 'csv'\nformat = 'csv'", "2:1: not TOML: duplicate key"),
    ];
    for (text, says) in cases {
        let found = problems(text);
        assert!(found.iter().any(|problem| problem.contains(says)), "{text}\n{found:#?}");
    }
    let two = problems("format = 'csv'\n[columns.a]\ntype = 'txt'\n[columns.b]\ntype = 'integr'");
    assert_eq!(two.len(), 2, "all of them at once: {two:#?}");
}

#[test]
fn numbers_are_kept_as_they_are_written() {
    let layout = Layout::parse(&format!("{SMALL}factor = 0.1\nmax = '12345678901234567890.5'")).unwrap();
    assert_eq!(layout.columns[0].factor.unwrap().to_string(), "0.1");
    assert_eq!(layout.columns[0].most.unwrap().to_string(), "12345678901234567890.5");
}

/// The keys that the parser knows in a table of a layout, by the hint on a key that is none.
fn known_keys(layout: &str) -> Vec<String> {
    let problems = Layout::parse(layout).unwrap_err();
    let hint =
        problems.iter().find_map(|problem| problem.hint.as_ref()?.strip_prefix("known keys: ").map(str::to_owned));
    let hint = hint.unwrap_or_else(|| panic!("no list of keys in {problems:#?}"));
    let mut keys: Vec<String> =
        hint.split(['"']).filter(|part| !part.contains([',', ' '])).map(str::to_owned).collect();
    keys.retain(|key| !key.is_empty());
    keys.sort();
    keys.dedup();
    keys
}

#[test]
fn the_schema_and_the_reference_have_every_key() {
    let schema: serde_json::Value = serde_json::from_str(super::JSON_SCHEMA).unwrap();
    let page = include_str!("../../../../docs/layouts.md");
    let columns = "[columns.a]\ntype='timestamp'\n[columns.b]\ntype='integer'";
    let tables = [
        ("", format!("format='csv'\nzzqqzzqq=1\n{columns}"), ""),
        ("wide", format!("format='csv'\n{columns}\n[wide]\nzzqqzzqq=1\nheaders='(a)'\nvalue='b'\ntime='a'"), ""),
        (
            "points",
            format!(
                "format='xml'\nrows='a/b'\n{columns}\n[points]\nzzqqzzqq=1\ntime='a'\nposition='p'\nstart='s'\nend='e'\nresolution='r'"
            ),
            "",
        ),
        ("series", format!("format='csv'\n{columns}\n[series]\nzzqqzzqq=1\ntime='a'\nstep='PT1H'\nzone='UTC'"), ""),
        ("trailers", format!("format='csv'\n{columns}\n[[trailers]]\nzzqqzzqq=1\nstarts_with='#'"), "/items"),
        ("faults", format!("format='csv'\n{columns}\n[faults]\nzzqqzzqq=1"), ""),
    ];
    // Which keys a column has depends on its type.
    let columns_of = |kind: &str| known_keys(&format!("format='csv'\n[columns.a]\ntype='{kind}'\nzzqqzzqq=1"));
    let mut of_columns: Vec<String> =
        ["integer", "timestamp", "boolean", "enum"].into_iter().flat_map(columns_of).collect();
    of_columns.sort();
    of_columns.dedup();
    let tables = tables.map(|(table, layout, below)| (table, known_keys(&layout), below));
    for (table, known, below) in tables.into_iter().chain([("columns", of_columns, "/additionalProperties")]) {
        let at = if table.is_empty() { String::new() } else { format!("/properties/{table}{below}") };
        let properties = schema.pointer(&format!("{at}/properties")).unwrap().as_object().unwrap();
        let mut described: Vec<String> = properties.keys().cloned().collect();
        described.sort();
        assert_eq!(known, described, "{table}");
        for key in described {
            let is_there = page.contains(&format!("`{key}`")) || page.contains(&format!("`{key} = "));
            assert!(is_there, "docs/layouts.md does not have {key} of {table:?}");
        }
    }
}

#[test]
fn ready_made_layouts_are_layouts() {
    for one in super::library::all() {
        Layout::parse(one.text).unwrap_or_else(|problems| panic!("{}: {problems:#?}", one.name));
        assert!(one.about().len() > 20, "{}: its first line says what it is for", one.name);
    }
}
