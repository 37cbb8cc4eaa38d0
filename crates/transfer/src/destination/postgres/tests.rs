use super::columns::widens;

#[test]
fn wider_types_hold_every_value() {
    let wider = [
        ("smallint", "integer"),
        ("smallint", "bigint"),
        ("integer", "bigint"),
        ("bigint", "numeric"),
        ("real", "double precision"),
        ("numeric(10,2)", "numeric(12,2)"),
        ("numeric(10,2)", "numeric(14,4)"),
        ("numeric(10,2)", "numeric"),
        ("character varying(10)", "character varying(20)"),
        ("character varying(10)", "character varying"),
        ("character varying(10)", "text"),
        ("character varying", "text"),
        ("character(3)", "character(5)"),
    ];
    for (was, is) in wider {
        assert!(widens(was, is), "{was} to {is}");
        assert!(!widens(is, was), "{is} to {was}");
    }
}

#[test]
fn other_changes_are_not_made() {
    let others = [
        ("bigint", "double precision"),
        ("numeric(10,2)", "numeric(11,4)"),
        ("numeric(10,2)", "numeric(10,1)"),
        ("integer", "text"),
        ("text", "integer"),
        ("numeric(3,1)", "character varying(3)"),
        ("timestamp without time zone", "timestamp with time zone"),
        ("timestamp(3) without time zone", "timestamp(6) without time zone"),
    ];
    for (was, is) in others {
        assert!(!widens(was, is), "{was} to {is}");
    }
}
