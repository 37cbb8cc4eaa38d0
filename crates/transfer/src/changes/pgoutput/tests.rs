use super::*;

/// Builds messages as the server sends them.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn value(self, format: u8, value: &[u8]) -> Self {
        self.bytes(&[format]).bytes(&(value.len() as u32).to_be_bytes()).bytes(value)
    }
}

fn begin() -> Vec<u8> {
    let micros = 1_000_000i64;
    let writer = Writer::default().bytes(b"B").bytes(&0x16_B374_u64.to_be_bytes()).bytes(&micros.to_be_bytes());
    writer.bytes(&77u32.to_be_bytes()).0
}

fn update() -> Vec<u8> {
    let writer = Writer::default().bytes(b"U").bytes(&16_384u32.to_be_bytes());
    let old = writer.bytes(b"K").bytes(&3u16.to_be_bytes()).value(b'b', &7i64.to_be_bytes()).bytes(b"nn");
    old.bytes(b"N").bytes(&3u16.to_be_bytes()).value(b'b', &8i64.to_be_bytes()).value(b't', b"text").bytes(b"u").0
}

fn relation_message() -> Vec<u8> {
    let writer = Writer::default().bytes(b"R").bytes(&16_384u32.to_be_bytes()).bytes(b"public\0t\0d");
    let columns = writer.bytes(&2u16.to_be_bytes());
    let first = columns.bytes(&[1]).bytes(b"id\0").bytes(&20u32.to_be_bytes()).bytes(&(-1i32).to_be_bytes());
    first.bytes(&[0]).bytes("é\0".as_bytes()).bytes(&25u32.to_be_bytes()).bytes(&(-1i32).to_be_bytes()).0
}

fn truncate() -> Vec<u8> {
    let writer = Writer::default().bytes(b"T").bytes(&2u32.to_be_bytes()).bytes(&[0]);
    writer.bytes(&1u32.to_be_bytes()).bytes(&2u32.to_be_bytes()).0
}

#[test]
fn messages_are_parsed() {
    let transaction = Transaction { commit: Lsn(0x16_B374), at_micros: EPOCH_MICROS + 1_000_000, xid: 77 };
    assert_eq!(Message::parse(&begin()).unwrap(), Message::Begin(transaction));
    let bytes = update();
    let Message::Update { relation, old: Some(old), new } = Message::parse(&bytes).unwrap() else {
        panic!("no update")
    };
    let (seven, eight) = (7i64.to_be_bytes(), 8i64.to_be_bytes());
    assert_eq!((relation, old.count, new.count), (16_384, 3, 3));
    assert_eq!(old.fields().collect::<Vec<_>>(), [Field::Binary(&seven), Field::Null, Field::Null]);
    assert_eq!(new.fields().collect::<Vec<_>>(), [Field::Binary(&eight), Field::Text(b"text"), Field::Unchanged]);
    let bytes = relation_message();
    let Message::Relation(relation) = Message::parse(&bytes).unwrap() else { panic!("no relation") };
    assert_eq!((relation.schema.as_str(), relation.name.as_str(), relation.identity), ("public", "t", b'd'));
    assert_eq!(relation.columns[1].name, "é");
    assert!(relation.columns[0].is_identity && !relation.columns[1].is_identity);
    assert_eq!(Message::parse(&truncate()).unwrap(), Message::Truncate(vec![1, 2]));
}

#[test]
fn messages_that_are_cut_are_errors() {
    for message in [begin(), update(), relation_message(), truncate()] {
        for length in 0..message.len() {
            assert!(Message::parse(&message[..length]).is_err(), "{length} bytes of {message:?}");
        }
    }
}

#[test]
fn random_changes_of_messages_are_read_or_refused() {
    let (begin, update, relation, truncate) = (begin(), update(), relation_message(), truncate());
    testkit::read_changed_bytes(&[&begin, &update, &relation, &truncate], |bytes| {
        if let Ok(Message::Update { old, new, .. }) = Message::parse(bytes) {
            let fields = new.fields().count() + old.map_or(0, |old| old.fields().count());
            assert!(fields <= bytes.len());
        }
    });
}
