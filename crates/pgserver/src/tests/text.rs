//! Tests of connection strings, and of the output of tools.

use crate::Binaries;
use crate::backup::{Source, parse_progress};
use crate::binaries::parse_major;

#[test]
fn passwords_are_removed_from_connection_strings() {
    let parse = |text: &str| {
        let source = Source::parse(text).unwrap();
        (source.without_password, source.password.unwrap_or_default())
    };
    let cases = [
        ("postgres://u:p%40ss@h:1/db?sslmode=require", "postgres://u@h:1/db?sslmode=require", "p@ss"),
        ("postgresql://h/db?password=a%26b&user=u", "postgresql://h/db?user=u", "a&b"),
        ("postgresql://u:se?cret@h?password=", "postgresql://u@h", "se?cret"),
        ("postgresql://u:@h,g:2/db", "postgresql://u@h,g:2/db", ""),
        ("postgresql:///db?host=/run", "postgresql:///db?host=/run", ""),
        ("host=h password = 'it\\'s a' user=u", "host=h user=u", "it's a"),
        ("password=plain\\ x options='-c a=b'", "options='-c a=b'", "plain x"),
    ];
    for (given, without_password, password) in cases {
        let password = if given.ends_with("password=") { "" } else { password };
        assert_eq!(parse(given), (without_password.to_owned(), password.to_owned()), "{given}");
    }
    for bad in ["postgresql://u:se/cret@h/db", "host", "host='open", "postgres://u:%zz@h"] {
        assert!(Source::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_output_of_tools_is_parsed() {
    assert_eq!(parse_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
    assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
    assert_eq!(parse_progress("  2/30 kB (6%), 0/1 tablespace"), Some((2048, Some(30720))));
    assert_eq!(parse_progress("    7 kB, 1 tablespace"), Some((7168, None)));
    assert_eq!(parse_progress("pg_basebackup: error: no kB here"), None);
    let bin = Binaries::find(None).unwrap();
    assert_eq!(Binaries::find(Some(&bin.dir)).unwrap(), bin);
    assert_eq!(
        bin.major_version().unwrap().to_string(),
        bin.dir.parent().unwrap().file_name().unwrap().to_str().unwrap()
    );
}
