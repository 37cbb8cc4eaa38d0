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
    assert_eq!((csv.separator, csv.encoding, csv.header, csv.skip_lines), (b';', Encoding::Auto, true, 0));
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
            "1:10: unknown format \"csw\": expected one of \"csv\", \"xlsx\", \"json\", \"ndjson\", \"parquet\", \"xml\"; nearest: \"csv\"",
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
            "\"step\": expected PT1S to PT24H",
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
