import java.math.BigDecimal;
import java.sql.*;
import java.time.*;
import java.util.*;

/** PostgreSQL's JDBC driver, which DBeaver, Metabase, Power BI's gateway and Spark use. */
public class ByJdbc {
    static void same(Object expected, Object found) {
        if (!Objects.equals(expected, found)) throw new AssertionError("expected " + expected + ", found " + found);
    }

    static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        while (rows.next()) values.add(rows.getString(name));
        return values;
    }

    static void metadata(Connection connection) throws SQLException {
        DatabaseMetaData data = connection.getMetaData();
        same("PostgreSQL", data.getDatabaseProductName());
        if (!column(data.getSchemas(), "TABLE_SCHEM").contains("platform")) throw new AssertionError("schemas");
        if (column(data.getCatalogs(), "TABLE_CAT").isEmpty()) throw new AssertionError("catalogs");
        same(List.of("readings", "sites"), column(data.getTables(null, "platform", "%", new String[] {"TABLE"}), "TABLE_NAME"));
        same(List.of("readings"), column(data.getTables(null, "platform", "read%", null).unwrap(ResultSet.class), "TABLE_NAME")
            .stream().filter("readings"::equals).toList());
        Map<String, Integer> types = new LinkedHashMap<>();
        Map<String, String> names = new LinkedHashMap<>();
        try (ResultSet columns = data.getColumns(null, "platform", "readings", "%")) {
            while (columns.next()) {
                types.put(columns.getString("COLUMN_NAME"), columns.getInt("DATA_TYPE"));
                names.put(columns.getString("COLUMN_NAME"), columns.getString("TYPE_NAME"));
                if (columns.getString("COLUMN_NAME").equals("energy_kwh")) {
                    same(18, columns.getInt("COLUMN_SIZE"));
                    same(6, columns.getInt("DECIMAL_DIGITS"));
                }
            }
        }
        same(List.of("site_id", "at", "local_at", "power_kw", "energy_kwh", "quality", "step_s", "factor", "valid", "note",
            "tags", "steps", "raw", "updated_at"), new ArrayList<>(types.keySet()));
        same(List.of(Types.INTEGER, Types.TIMESTAMP, Types.TIMESTAMP, Types.DOUBLE, Types.NUMERIC, Types.SMALLINT,
            Types.BIGINT, Types.REAL, Types.BIT, Types.VARCHAR, Types.ARRAY, Types.ARRAY, Types.BINARY, Types.TIMESTAMP),
            new ArrayList<>(types.values()));
        same("timestamptz", names.get("at"));
        same("_text", names.get("tags"));
        // A key where there is one; a query for it is no error where there is none.
        List<String> key = column(data.getPrimaryKeys(null, "platform", "sites"), "COLUMN_NAME");
        if (!key.isEmpty()) same(List.of("id"), key);
        same(List.of(), column(data.getImportedKeys(null, "platform", "readings"), "FKCOLUMN_NAME"));
        same(List.of(), column(data.getExportedKeys(null, "platform", "sites"), "FKCOLUMN_NAME"));
        data.getIndexInfo(null, "platform", "sites", false, true).close();
        data.getTypeInfo().close();
        data.getTableTypes().close();
        data.getTablePrivileges(null, "platform", "sites").close();
        data.getColumnPrivileges(null, "platform", "sites", "%").close();
        data.getFunctions(null, "platform", "%").close();
        data.getProcedures(null, "platform", "%").close();
        if (data.getSQLKeywords().isEmpty()) throw new AssertionError("keywords");
        if (data.getMaxColumnNameLength() != 63) throw new AssertionError("names");
    }

    /** From the fifth execution on the driver prepares the statement on the server, with binary results. */
    static void prepared(Connection connection) throws SQLException {
        String query = "select * from platform.readings where site_id = ? and at = ?";
        OffsetDateTime at = OffsetDateTime.parse("2026-03-28T23:10:00Z");
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            for (int run = 0; run < 12; run++) {
                statement.setInt(1, 2);
                statement.setObject(2, at);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    same(at, rows.getObject("at", OffsetDateTime.class));
                    same(LocalDateTime.parse("2026-03-29T00:10"), rows.getObject("local_at", LocalDateTime.class));
                    same(Timestamp.from(at.toInstant()), rows.getTimestamp("at"));
                    same(203.5, rows.getDouble("power_kw"));
                    same(new BigDecimal("40.333334"), rows.getBigDecimal("energy_kwh"));
                    same(List.of((short) 1, 600L, 0.5f, false, "note 7"), List.of(rows.getShort("quality"),
                        rows.getLong("step_s"), rows.getFloat("factor"), rows.getBoolean("valid"), rows.getString("note")));
                    same(Arrays.asList("a", null, "é\"7"), Arrays.asList((Object[]) rows.getArray("tags").getArray()));
                    same(Arrays.asList(7, null, -7), Arrays.asList((Object[]) rows.getArray("steps").getArray()));
                    same("00ff0007", HexFormat.of().formatHex(rows.getBytes("raw")));
                    same(false, rows.next());
                }
            }
            ParameterMetaData asked = statement.getParameterMetaData();
            same(List.of("int4", "timestamptz"), List.of(asked.getParameterTypeName(1), asked.getParameterTypeName(2)));
            ResultSetMetaData told = statement.getMetaData();
            same(List.of("numeric", 18, 6), List.of(told.getColumnTypeName(5), told.getPrecision(5), told.getScale(5)));
        }
        String others = "select count(*) from platform.readings where note = any(?) and local_at < ? and energy_kwh > ? and at::date = ?";
        try (PreparedStatement statement = connection.prepareStatement(others)) {
            for (int run = 0; run < 7; run++) {
                statement.setArray(1, connection.createArrayOf("text", new String[] {"note 7", "note 8"}));
                statement.setObject(2, LocalDateTime.parse("2026-03-29T00:15"));
                statement.setBigDecimal(3, new BigDecimal("30"));
                // The session is in Paris, which the driver sends to the server: there it is the 29th.
                statement.setObject(4, LocalDate.parse("2026-03-29"));
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    same(2L, rows.getLong(1));
                }
            }
        }
        try (PreparedStatement statement = connection.prepareStatement("select opened_on, power_kw from platform.sites where id = ?")) {
            for (int run = 0; run < 7; run++) {
                statement.setInt(1, run % 2 == 0 ? 1 : 3);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    same(run % 2 == 0 ? LocalDate.parse("2019-03-31") : null, rows.getObject(1, LocalDate.class));
                    same(run % 2 == 0 ? new BigDecimal("12000.500") : null, rows.getBigDecimal(2));
                }
            }
        }
    }

    /** Without auto-commit a fetch size makes a portal, read in parts. */
    static void fetched(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        connection.setReadOnly(true);
        try (PreparedStatement statement = connection.prepareStatement("select at from platform.readings where site_id = 1 order by at")) {
            statement.setFetchSize(150);
            try (ResultSet rows = statement.executeQuery()) {
                int count = 0;
                while (rows.next()) count++;
                same(1000, count);
            }
            statement.setMaxRows(10);
            try (ResultSet rows = statement.executeQuery()) {
                int count = 0;
                while (rows.next()) count++;
                same(10, count);
            }
        }
        Savepoint before = connection.setSavepoint("before");
        try (Statement statement = connection.createStatement()) {
            statement.executeQuery("select * from platform.nothing");
            throw new AssertionError("a table that is not there was read");
        } catch (SQLException error) {
            same("42P01", error.getSQLState());
        }
        connection.rollback(before);
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery("select count(*) from platform.sites")) {
            rows.next();
            same(3, rows.getInt(1));
        }
        connection.commit();
        connection.setReadOnly(false);
        connection.setAutoCommit(true);
    }

    static void limited(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            long started = System.nanoTime();
            statement.executeQuery("select count(*) from platform.readings a, platform.readings b, platform.readings c where a.power_kw * b.power_kw > c.power_kw");
            throw new AssertionError("a query outlived its timeout after " + (System.nanoTime() - started) / 1e9 + " s");
        } catch (SQLException error) {
            same("57014", error.getSQLState());
        }
        same(true, connection.isValid(120));
        same("public", connection.getSchema());
    }

    public static void main(String[] arguments) throws SQLException {
        var parts = java.util.regex.Pattern.compile("postgresql://([^:]+):([^@]+)@(.+)").matcher(System.getenv("WATTLAKE_CLIENT_URL"));
        parts.matches();
        TimeZone.setDefault(TimeZone.getTimeZone("Europe/Paris"));
        String url = "jdbc:postgresql://" + parts.group(3);
        for (String mode : List.of("extended", "simple")) {
            Properties properties = new Properties();
            properties.putAll(Map.of("user", parts.group(1), "password", parts.group(2), "preferQueryMode", mode, "ApplicationName", "by jdbc"));
            try (Connection connection = DriverManager.getConnection(url, properties)) {
                metadata(connection);
                if (mode.equals("extended")) {
                    prepared(connection);
                    fetched(connection);
                    limited(connection);
                }
            }
        }
        System.out.println("pgjdbc " + DriverManager.getDriver(url).getMajorVersion() + "." + DriverManager.getDriver(url).getMinorVersion());
    }
}
