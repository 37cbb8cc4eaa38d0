//! The definition of a table in control messages.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The columns and the key of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDefinition {
    /// The columns, in their order.
    pub columns: Vec<ColumnDefinition>,
    /// The names of the key's columns; empty where the table has no primary key.
    pub primary_key: Vec<String>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type in DMS.
    pub column_type: ColumnType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Its type at the source, where DMS's is not exact.
    #[serde(default)]
    pub native: Option<String>,
}

/// A type of DMS.
///
/// <https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Reference.DataTypes.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnType {
    /// A truth value.
    Boolean,
    /// A signed number of this many bytes.
    Int(u8),
    /// A number without a sign of this many bytes.
    Uint(u8),
    /// A number of single precision.
    Real4,
    /// A number of double precision.
    Real8,
    /// An exact number of this precision and scale; without them, any.
    Numeric(Option<(u8, u8)>),
    /// A date.
    Date,
    /// A time of day.
    Time,
    /// A date with a time.
    Datetime,
    /// Bytes, of a length where it is known.
    Bytes(Option<u32>),
    /// A text, of a length where it is known.
    Text(Option<u32>),
}

impl ColumnType {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            ColumnType::Boolean => "BOOLEAN",
            ColumnType::Int(1) => "INT1",
            ColumnType::Int(2) => "INT2",
            ColumnType::Int(4) => "INT4",
            ColumnType::Int(_) => "INT8",
            ColumnType::Uint(1) => "UINT1",
            ColumnType::Uint(2) => "UINT2",
            ColumnType::Uint(4) => "UINT4",
            ColumnType::Uint(_) => "UINT8",
            ColumnType::Real4 => "REAL4",
            ColumnType::Real8 => "REAL8",
            ColumnType::Numeric(_) => "NUMERIC",
            ColumnType::Date => "DATE",
            ColumnType::Time => "TIME",
            ColumnType::Datetime => "DATETIME",
            ColumnType::Bytes(Some(_)) => "BYTES",
            ColumnType::Bytes(None) => "BLOB",
            ColumnType::Text(Some(_)) => "WSTRING",
            ColumnType::Text(None) => "NCLOB",
        }
    }

    fn of(column: &Map<String, Value>) -> Result<ColumnType, String> {
        let name = column.get("type").and_then(Value::as_str).ok_or("a column has no type")?;
        let number = |key: &str| column.get(key).and_then(Value::as_u64);
        let length = number("length").and_then(|length| u32::try_from(length).ok());
        Ok(match name.to_ascii_uppercase().as_str() {
            "BOOLEAN" | "BOOL" => ColumnType::Boolean,
            "INT1" => ColumnType::Int(1),
            "INT2" => ColumnType::Int(2),
            "INT4" => ColumnType::Int(4),
            "INT8" => ColumnType::Int(8),
            "UINT1" => ColumnType::Uint(1),
            "UINT2" => ColumnType::Uint(2),
            "UINT4" => ColumnType::Uint(4),
            "UINT8" => ColumnType::Uint(8),
            "REAL4" => ColumnType::Real4,
            "REAL8" => ColumnType::Real8,
            "NUMERIC" => {
                let precision = number("precision").and_then(|precision| u8::try_from(precision).ok());
                let scale = number("scale").unwrap_or_default().try_into().unwrap_or_default();
                ColumnType::Numeric(precision.map(|precision| (precision, scale)))
            }
            "DATE" => ColumnType::Date,
            "TIME" => ColumnType::Time,
            "DATETIME" => ColumnType::Datetime,
            "BYTES" => ColumnType::Bytes(length),
            "BLOB" => ColumnType::Bytes(None),
            "STRING" | "WSTRING" => ColumnType::Text(length),
            "CLOB" | "NCLOB" => ColumnType::Text(None),
            other => return Err(format!("{other:?} is not a type of DMS")),
        })
    }
}

impl TableDefinition {
    /// The place of a column.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The member `table-def`.
    pub fn to_json(&self) -> Value {
        let mut columns = Map::new();
        for column in &self.columns {
            let mut of = Map::new();
            of.insert("type".to_owned(), json!(column.column_type.name()));
            match column.column_type {
                ColumnType::Numeric(Some((precision, scale))) => {
                    of.insert("precision".to_owned(), json!(precision));
                    of.insert("scale".to_owned(), json!(scale));
                }
                ColumnType::Text(Some(length)) | ColumnType::Bytes(Some(length)) => {
                    of.insert("length".to_owned(), json!(length));
                }
                _ => {}
            }
            of.insert("nullable".to_owned(), json!(column.nullable));
            if let Some(native) = &column.native {
                of.insert("native-type".to_owned(), json!(native));
            }
            columns.insert(column.name.clone(), Value::Object(of));
        }
        json!({"columns": columns, "primary-key": self.primary_key})
    }

    /// Reads the member `table-def`.
    pub(super) fn of(value: &Value) -> Result<TableDefinition, String> {
        let columns = value.get("columns").and_then(Value::as_object).ok_or("the table's definition has no columns")?;
        let column = |(name, of): (&String, &Value)| {
            let of = of.as_object().ok_or_else(|| format!("column {name:?} is no object"))?;
            Ok(ColumnDefinition {
                name: name.clone(),
                column_type: ColumnType::of(of).map_err(|what| format!("column {name:?}: {what}"))?,
                nullable: of.get("nullable").and_then(Value::as_bool).unwrap_or(true),
                native: of.get("native-type").and_then(Value::as_str).map(str::to_owned),
            })
        };
        let key = value.get("primary-key").and_then(Value::as_array);
        let primary_key: Vec<String> =
            key.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        let definition =
            TableDefinition { columns: columns.iter().map(column).collect::<Result<_, String>>()?, primary_key };
        match definition.primary_key.iter().find(|name| definition.place(name).is_none()) {
            Some(name) => Err(format!("the key's column {name:?} is not among the columns")),
            None => Ok(definition),
        }
    }
}
