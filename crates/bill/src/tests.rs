//! Tests with the template and labels of the example.

use calamine::{Data, Reader, Xlsx};

use super::*;
use crate::number::{format_decimal, parse_decimal, rounded, whole_cents};

const TEMPLATE: &str = include_str!("../../../warehouse/templates/statement.html");
const FRENCH: &str = include_str!("../../../warehouse/templates/fr.toml");

fn labels() -> Labels {
    Labels::parse(FRENCH).unwrap()
}

fn head() -> StatementHeader {
    StatementHeader {
        period: "2026-03".into(),
        producer_id: "PRD0042".into(),
        producer: "Éoliennes <citoyennes> & Cie".into(),
        siret: Some("41234567800015".into()),
        number: "2026-03-PRD0042-1".into(),
        replaces: None,
        issued_at: "2026-04-02T06:00:00Z".parse().unwrap(),
        issued_on: "2026-04-02".parse().unwrap(),
        is_draft: false,
    }
}

fn line(contract: &str, rule: &str, quantity: i64, price: Option<&str>, amount: &str) -> StatementLine {
    StatementLine {
        contract_id: contract.into(),
        valid_from: "2021-01-01".into(),
        site_id: "EOL-042".into(),
        prm: "30000000000042".into(),
        kind: "SPOT_PASSTHROUGH".into(),
        rule: rule.into(),
        quantity,
        unit: "Wh".into(),
        price: price.map(str::to_owned),
        price_unit: price.map(|_| "EUR/MWh".to_owned()),
        amount: amount.into(),
        vat: "reverse_charge".into(),
        vat_rate_pct: "0.0000".into(),
        vat_amount: "0.00".into(),
        quality: "measured".into(),
    }
}

fn days() -> Vec<DayEnergy> {
    let day = |at: u32| DayEnergy {
        day: chrono::NaiveDate::from_ymd_opt(2026, 3, at).unwrap(),
        energy_wh: i64::from(at) * 1_000_000,
    };
    (1..=31).map(day).collect()
}

fn statement() -> Statement {
    let lines = vec![
        line("CTR-1", "spot", 743_000_000, None, "1234567.89"),
        line("CTR-1", "fee", 743_000_000, Some("-1.8500"), "-1374.55"),
        StatementLine {
            unit: "W".into(),
            price_unit: Some("EUR/MW/month".into()),
            ..line("CTR-2", "fee_power", 12_500_000, Some("-35.0000"), "-437.50")
        },
    ];
    Statement::new(head(), lines, days()).unwrap()
}

fn rendered(statement: &Statement) -> String {
    let page = page("statement.html", TEMPLATE, &labels(), statement).unwrap();
    page.replace("&#x2f;", "/").replace("&#x27;", "'")
}

#[test]
fn a_page_in_french() {
    let page = rendered(&statement());
    for expected in [
        "<html lang=\"fr\">",
        "Relevé de production et facture, mars 2026",
        "Éoliennes &lt;citoyennes&gt; &amp; Cie (PRD0042)",
        "02/04/2026",
        "Énergie au prix du marché journalier",
        "743,000000\u{a0}MWh",
        // 1,234,567.89 / 743 MWh
        "1\u{202f}661,60 €/MWh (moyen)",
        "\u{2212}1,85 €/MWh",
        "\u{2212}35,00 €/MW par mois",
        "1\u{202f}234\u{202f}567,89\u{a0}€",
        "\u{2212}1\u{202f}374,55\u{a0}€",
        "12\u{202f}500\u{a0}kW",
        // The sums of CTR-1 and of all contracts.
        "1\u{202f}233\u{202f}193,34\u{a0}€",
        "1\u{202f}232\u{202f}755,84\u{a0}€",
        "Autoliquidation",
        "496\u{a0}MWh",
        "<p class=\"issuer\">Votre société",
    ] {
        assert!(page.contains(expected), "{expected}\n{page}");
    }
    assert!(!page.contains("PROJET") && !page.contains("avoir"));
    assert_eq!(page.matches("<rect ").count(), 31);
    assert_eq!(page, rendered(&statement()), "the same statement is the same page");
}

#[test]
fn a_credit_note_and_a_draft() {
    let mut line = line("CTR-1", "cr", 5_000, Some("-5.3000"), "-0.03");
    (line.kind, line.vat, line.quality) = ("CR".into(), "none".into(), "estimated".into());
    let statement = Statement::new(
        StatementHeader {
            is_draft: true,
            replaces: Some(ReplacedStatement { number: "2026-03-PRD0042-0".into(), due_cents: Some(997) }),
            ..head()
        },
        vec![line],
        vec![],
    )
    .unwrap();
    let page = rendered(&statement);
    for expected in [
        "montant négatif, mars 2026",
        "PROJET",
        "Annule et remplace</dt><dd>2026-03-PRD0042-0 (9,97\u{a0}€)",
        // -0.03 - 9.97
        "\u{2212}10,00\u{a0}€",
        "Net à rembourser",
        "\u{2212}0,03\u{a0}€",
        "0,005000\u{a0}MWh",
        "(estimée)",
        "hors du champ",
    ] {
        assert!(page.contains(expected), "{expected}\n{page}");
    }
    assert!(!page.contains("<svg"), "no days, no chart");
}

#[test]
fn errors_have_their_place() {
    let said = |template: &str| {
        let error = page("mine.html", template, &labels(), &statement()).unwrap_err();
        assert_eq!(error.kind, Kind::FixInput);
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}")
    };
    let text = said("<p>\n{{ no_such_thing }}\n");
    assert!(text.starts_with("render mine.html, line 2: undefined value"), "{text}");
    let text = said("{% for line in lines %}");
    assert!(text.starts_with("render mine.html, line 1: syntax error"), "{text}");
    let text = said("{{ 'cr_new'|label('rule') }}");
    assert!(text.contains("there is no \"cr_new\"; add it to [rules]"), "{text}");
    let refused = |change: fn(&mut StatementLine)| {
        let mut one = line("CTR-1", "spot", 1, None, "1.00");
        change(&mut one);
        Statement::new(head(), vec![one], vec![]).unwrap_err().to_string()
    };
    assert_eq!(
        refused(|line| line.amount = "1,00".into()),
        "read amount \"1,00\" of CTR-1, spot: expected a decimal such as 1234.56"
    );
    assert_eq!(
        refused(|line| line.amount = "1.005".into()),
        "read amount \"1.005\" of CTR-1, spot: expected whole cents"
    );
    assert!(refused(|line| line.price = Some("x".into())).starts_with("read price \"x\""));
    let none = Statement::new(head(), vec![], vec![]).unwrap_err();
    assert_eq!(none.to_string(), "make a statement: PRD0042 has no lines in 2026-03");
    let month = Statement::new(
        StatementHeader { period: "2026-3x".into(), ..head() },
        vec![line("C", "spot", 1, None, "1")],
        vec![],
    );
    assert!(month.unwrap_err().to_string().contains("\"2026-3x\" is not a month"));
    // Marks with which an amount could be read as another one, and a format that is none of a day.
    let mark = |name: &str| FRENCH.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    for (line, with, what) in [
        ("decimal", "decimal = \"\"", "is not one sign"),
        ("decimal", "decimal = \"1\"", "is not one sign"),
        ("thousands", "thousands = \",\"", "the mark of decimals and of thousands"),
        ("thousands", "thousands = \"ab\"", "is not one sign or none"),
        ("date", "date = \"%Q\"", "is no format of a day"),
        ("date", "date = \"%H:%M\"", "is no format of a day"),
    ] {
        let error = Labels::parse(&FRENCH.replace(&mark(line), with)).unwrap_err().to_string();
        assert!(error.contains(what), "{with}: {error}");
    }
    let labels = Labels::parse("language = \"fr\"\nnew = 1\n").unwrap_err();
    assert!(std::error::Error::source(&labels).unwrap().to_string().contains("line 2"));
}

#[test]
fn the_workbook_holds_the_same_numbers() {
    let bytes = workbook(&labels(), &statement()).unwrap();
    assert_eq!(bytes, workbook(&labels(), &statement()).unwrap());
    let mut book: Xlsx<_> = Xlsx::new(std::io::Cursor::new(bytes)).unwrap();
    assert_eq!(book.sheet_names(), ["Récapitulatif", "Lignes", "Jours"]);
    let summary = book.worksheet_range("Récapitulatif").unwrap();
    assert_eq!(summary.get_value((0, 1)), Some(&Data::String("2026-03-PRD0042-1".into())));
    let last = summary.height() as u32 - 1;
    assert_eq!(summary.get_value((last, 0)), Some(&Data::String("Net à payer TTC".into())));
    assert_eq!(summary.get_value((last, 1)), Some(&Data::Float(statement().due_cents() as f64 / 100.0)));
    let lines = book.worksheet_range("Lignes").unwrap();
    let cell = |row: u32, column: u32| lines.get_value((row, column)).cloned().unwrap_or_default();
    assert_eq!(cell(0, 8), Data::String("Montant HT".into()));
    assert_eq!(cell(1, 3), Data::String("Énergie au prix du marché journalier".into()));
    assert_eq!((cell(1, 4), cell(1, 6), cell(1, 8)), (Data::Float(743e6), Data::Empty, Data::Float(1_234_567.89)));
    assert_eq!((cell(2, 6), cell(4, 8)), (Data::Float(-1.85), Data::Float(1_232_755.84)));
    let days = book.worksheet_range("Jours").unwrap();
    assert_eq!(days.height(), 32);
    assert_eq!(days.get_value((31, 1)), Some(&Data::Float(31.0)));
}

#[test]
fn decimals_keep_every_digit() {
    let marks = labels().marks;
    let shown = |text: &str, least| format_decimal(parse_decimal(text).unwrap(), least, &marks);
    assert_eq!(shown("68.6115", 2), "68,6115");
    assert_eq!(shown("68.6000", 2), "68,60");
    assert_eq!(shown("7", 2), "7,00");
    assert_eq!(shown("-0.05", 2), "\u{2212}0,05");
    assert_eq!(shown("1000", 0), "1\u{202f}000");
    assert_eq!(shown("999", 0), "999");
    let rounded = |text: &str, digits| format_decimal(rounded(parse_decimal(text).unwrap(), digits), 0, &marks);
    assert_eq!((rounded("1.0005", 3).as_str(), rounded("-1.0005", 3).as_str()), ("1,001", "\u{2212}1,001"));
    assert_eq!((rounded("1.00049", 3).as_str(), rounded("0.5", 3).as_str()), ("1", "0,5"));
    for text in
        ["", "-", ".5", "5.", "1e3", "1,5", "+1", "1.2.3", " 1", "1_000", "99999999999999999999999999999999999999"]
    {
        assert_eq!(parse_decimal(text), None, "{text}");
    }
    assert_eq!(whole_cents(parse_decimal("-12.3000").unwrap()), Some(-1230));
    assert_eq!(whole_cents(parse_decimal("12.345").unwrap()), None);
}

#[test]
fn axis_lines_have_round_values() {
    let chart = crate::chart::chart(&days());
    let marks: Vec<i64> = chart.marks.iter().map(|mark| mark.energy_wh / 1_000_000).collect();
    assert_eq!(marks, [0, 10, 20, 30, 40]);
    let last = chart.bars.last().unwrap();
    assert_eq!(last.height, 139.5);
    assert_eq!(last.y + last.height, crate::chart::HEIGHT);
    assert!(last.x + last.width < crate::chart::WIDTH);
    let none = crate::chart::chart(&[]);
    assert_eq!((none.bars.len(), none.marks.len()), (0, 2));
}
