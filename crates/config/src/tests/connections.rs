//! Connections, the variables in them, and their secrets.

use tokio_postgres::config::Host;

use super::*;

fn connection(lines: &str) -> Connection {
    let dir = folder(&[("wattlake.toml", &format!("lake.url = 'lake'\n[connections.c]\n{lines}"))]);
    Warehouse::load(dir.path(), &env).unwrap().connections["c"].clone()
}

fn connection_problems(lines: &str) -> Vec<String> {
    warehouse_problems(&format!("lake.url = 'lake'\n[connections.c]\n{lines}"))
}

#[test]
fn variables_are_filled_in_or_found_wrong() {
    let text = "lake.url = '${A}/${B_1}${A}'\n[lake.options]\n\"é\" = \"é${open\"\nb = '${1x}'\n\
                c = ['${}', '${SECRET}']\n[connections.c]\nhost = '${C}'\nport = 0\n";
    assert_eq!(
        warehouse_problems(text),
        [
            "wattlake.toml:1:13: the environment variable A is not set; set it: export A=...",
            "wattlake.toml:1:18: the environment variable B_1 is not set; set it: export B_1=...",
            "wattlake.toml:1:24: the environment variable A is not set; set it: export A=...",
            "wattlake.toml:3:9: `${` without its `}`; write ${NAME}, or $$ for a dollar sign",
            "wattlake.toml:4:6: the text in `${}` is not a name of an environment variable; \
             write ${NAME}, or $$ for a dollar sign",
            "wattlake.toml:5:7: the text in `${}` is not a name of an environment variable; \
             write ${NAME}, or $$ for a dollar sign",
            "wattlake.toml:7:9: the environment variable C is not set; set it: export C=...",
            "wattlake.toml:8:8: \"port\": expected 1 to 65535, found 0",
        ]
    );
    let text = "lake.url = 'lake'\nlake.options.o = '$$${SECRET}$ $$$${MODE} ${MODE}$'";
    let dir = folder(&[("wattlake.toml", text)]);
    let options = Warehouse::load(dir.path(), &env).unwrap().lake.unwrap().options();
    assert_eq!(options["o"], format!("${SECRET}$ $${{MODE}} require$"));
}

#[test]
fn a_password_may_hold_any_characters() {
    let texts = [
        "url = 'postgresql://eva:${SECRET}@db.example.com:6543/pl?sslmode=require'",
        "host = 'db.example.com'\nport = 6543\nuser = 'eva'\npassword = '${SECRET}'\ndatabase = 'pl'\nsslmode = 'require'",
        "host = 'db.example.com'\nport = '${PORT}'\nuser = 'eva'\npassword = '${SECRET}'\ndatabase = 'pl'\nsslmode = '${MODE}'",
    ];
    for text in texts {
        let url = connection(text).url().unwrap().clone();
        let config: tokio_postgres::Config = url.reveal().parse().unwrap();
        assert_eq!(config.get_password(), Some(SECRET.as_bytes()), "{text}");
        assert_eq!(config.get_hosts(), [Host::Tcp("db.example.com".to_owned())]);
        assert_eq!((config.get_user(), config.get_dbname()), (Some("eva"), Some("pl")));
        assert_eq!(config.get_ports(), [6543]);
        assert!(url.reveal().ends_with("/pl?sslmode=require"));
    }
}

#[test]
fn connections_in_other_forms() {
    let config = |text: &str| connection(text).url().unwrap().reveal().parse::<tokio_postgres::Config>().unwrap();
    let whole = config("url = '${WHOLE}'");
    assert_eq!((whole.get_password(), whole.get_ports()), (Some(&b"p@ss"[..]), &[6000][..]));
    assert_eq!(config("host = '/run/pg'").get_hosts(), [Host::Unix("/run/pg".into())]);
    assert_eq!(config("host = '/run/pg'").get_ports(), [5432]);
    assert_eq!(config("host = '::1'\nuser = 'a b'").get_hosts(), [Host::Tcp("::1".to_owned())]);
    assert_eq!(config("host = 'h'\ndatabase = 'a/b?'").get_dbname(), Some("a/b?"));
    assert_eq!(config("url = 'postgresql:///d?host=/run/pg'").get_hosts(), [Host::Unix("/run/pg".into())]);
    assert_eq!(config("host = 'h'\nuser = '$$u'").get_user(), Some("$u"));
}

#[test]
fn the_certificate_is_found_from_the_warehouse() {
    for lines in [
        "url = 'postgresql://h/d?sslrootcert=ca+1/x.pem&sslmode=verify-full'",
        "host = 'h'\nsslrootcert = 'ca 1/x.pem'",
    ] {
        let dir = folder(&[("wattlake.toml", &format!("lake.url = 'lake'\n[connections.c]\n{lines}"))]);
        let warehouse = Warehouse::load(dir.path(), &env).unwrap();
        let url = url::Url::parse(warehouse.connections["c"].url().unwrap().reveal()).unwrap();
        let path = url.query_pairs().find(|(key, _)| key == "sslrootcert").unwrap().1.into_owned();
        assert_eq!(Path::new(&path), dir.path().join("ca 1/x.pem"));
    }
}

#[test]
fn wrong_connections() {
    let cases: [(&str, &[&str]); 12] = [
        (
            "url = 'postgresql://h/d'\nport = 1",
            &["wattlake.toml:4:8: \"port\" can't be used with \"url\"; write \"url\" or the other keys, not both"],
        ),
        (
            "url = 'mysql://h/d'",
            &["wattlake.toml:3:7: not the URL of a PostgreSQL server; begin it with postgresql://"],
        ),
        (
            "url = 'postgresql://eva:hun#ter2@h/d'",
            &["wattlake.toml:3:7: the connection's URL can't be read: invalid port number; \
               put what has special characters into a ${VARIABLE}, or percent-encode it (`#` is %23)"],
        ),
        (
            "url = 'postgresql:///d'",
            &["wattlake.toml:3:7: the connection's URL has no host; write postgresql://user@host:5432/database"],
        ),
        (
            "url = 'postgresql://h/d?sslmode=requir&sslmod=x'",
            &[
                "wattlake.toml:3:7: unknown sslmode in the connection's URL; nearest sslmode: \"require\"",
                "wattlake.toml:3:7: unknown parameter \"sslmod\" in the connection's URL; nearest parameter: \"sslmode\"",
            ],
        ),
        (
            "url = 'postgresql://h:12?hunter2@h/d'",
            &["wattlake.toml:3:7: unknown parameter in the connection's URL; parameters: \"application_name\", \
               \"channel_binding\", \"connect_timeout\", \"dbname\", \"host\", \"hostaddr\", \"keepalives\", \
               \"keepalives_idle\", \"keepalives_interval\", \"keepalives_retries\", \"options\", \"password\", \
               \"port\", \"sslmode\", \"sslrootcert\", \"target_session_attrs\", \"user\""],
        ),
        ("host = 'h'\npassword = 'hunter2'", &["wattlake.toml:4:12: a password without a user; add user = \"...\""]),
        (
            "host = 'h:5432'",
            &["wattlake.toml:3:8: \"host\" has more than a host; write only the name or the address; \
               write a port as \"port\", and a URL as \"url\""],
        ),
        ("host = 'h'\nport = 65536", &["wattlake.toml:4:8: \"port\": expected 1 to 65535, found 65536"]),
        ("host = 'h'\nport = '${SECRET}'", &["wattlake.toml:4:8: \"port\": expected 1 to 65535, found '${SECRET}'"]),
        (
            "host = 'h'\nsslmode = '${SECRET}'",
            &[
                "wattlake.toml:4:11: unknown sslmode '${SECRET}': expected one of \"disable\", \"prefer\", \"require\", \
               \"verify-full\"",
            ],
        ),
        (
            "host = 'h'\nuser = 'u'\npassword = 1234",
            &["wattlake.toml:5:12: \"password\": expected a string, found an integer; put the value in quotes"],
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(connection_problems(lines), expected, "{lines}");
    }
    assert_eq!(
        warehouse_problems("lake.url = 's4://b'\n[connections.lake]\nhost = 'h'"),
        [
            "wattlake.toml:1:12: unknown kind of object store in 's4://b'; nearest scheme: \"s3\"",
            "wattlake.toml:2:14: a connection can't have the name \"lake\", which is the lake as a target; \
             choose another name",
        ]
    );
}

#[test]
fn secrets_are_never_shown() {
    let dir = folder(&[(
        "wattlake.toml",
        "lake.url = 'lake'\nlake.options.key = '${SECRET}'\nconnections.c.url = 'postgresql://u:hunter2@h/d'\n",
    )]);
    let shown = format!("{:?}", Warehouse::load(dir.path(), &env).unwrap());
    assert!(!shown.contains(SECRET) && !shown.contains("hunter2") && !shown.contains("postgresql"), "{shown}");
    assert!(shown.contains("***"));
    assert_eq!(Secret::new(SECRET).to_string(), "***");
}
