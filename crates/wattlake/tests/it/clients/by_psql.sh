# psql: its commands, variables and formats, COPY to a file, Ctrl-C.
set -euo pipefail
export PGTZ=UTC
url="$WATTLAKE_CLIENT_URL"
ask() { psql "$url" -X -q -v ON_ERROR_STOP=1 "$@"; }
fail() { echo "$*" >&2; exit 1; }
same() { [ "$1" = "$2" ] || fail "expected: $1
found: $2"; }
has() { grep -qF -- "$2" <<<"$1" || fail "$2 is not in:
$1"; }

same 'platform' "$(ask -At -c '\dn platform' | cut -d'|' -f1)"
same 'platform|readings|table
platform|sites|table' "$(ask -At -c '\dt platform.*' | cut -d'|' -f1-3)"
described="$(ask -c '\d platform.readings')"
for column in 'at .*timestamp with time zone' 'local_at .*timestamp without time zone' 'energy_kwh .*numeric(18,6)' \
    'power_kw .*double precision' 'tags .*text\[\]' 'steps .*integer\[\]' 'raw .*bytea' 'quality .*smallint'; do
    grep -qE "^ *${column//(/\\(}" <<<"${described//)/\\)}" || grep -q "^ *$column" <<<"$described" || fail "no $column in: $described"
done
for command in '\l' '\dn+' '\d' '\dt *.*' '\dv' '\df' '\du' '\dx' '\dp' '\dT' '\di' '\conninfo' '\d platform.*'; do
    ask -c "$command" >/dev/null || fail "$command"
done

same 'Éoliennes du Nord|12000.500|2019-03-31|t|2026-01-01 00:00:00+00' \
    "$(ask -At -c 'select name, power_kw, opened_on, active, updated_at from platform.sites where id = 1')"
same '{a,NULL,"é\"7"}|{7,NULL,-7}|\x00ff0007|0.5|203.5|40.333334' \
    "$(ask -At -c "select tags, steps, raw, factor, power_kw, energy_kwh from platform.readings where site_id = 2 and note = 'note 7'")"
same '1|2026-03-29 00:00:00+01
2|2026-03-29 03:00:00+02' "$(ask -At <<'SQL'
set time zone 'Europe/Paris';
select row_number() over (order by hour), hour from
    (select distinct date_trunc('hour', at) as hour from platform.readings) hours
    where hour in ('2026-03-28 23:00+00', '2026-03-29 01:00+00') order by hour;
SQL
)"
same 'Barrage' "$(echo 'select name from platform.sites where id = :site' | ask -At -v site=3)"

file="$(mktemp)"
trap 'rm -f "$file"' EXIT
ask -c "\\copy (select id, name, kind, opened_on from platform.sites order by id) to '$file' csv header"
same "id,name,kind,opened_on
1,Éoliennes du Nord,wind,2019-03-31
2,Toits de l'école,solar,2022-10-30
3,Barrage,hydro," "$(cat "$file")"
same 3000 "$(ask -At -c 'copy platform.readings to stdout' | wc -l)"
same '1 2 3' "$(ask -At -v FETCH_COUNT=2 -c 'select id from platform.sites order by id' | xargs)"

error="$(ask -c 'select nothing from platform.sites' 2>&1)" && fail 'an unknown column was read'
has "$error" 'nothing'
error="$(ask -c 'insert into platform.sites (id) values (9)' 2>&1)" && fail 'a client wrote'
error="$(PGPASSWORD=wrong psql "$(sed -E "s/:[^:@/]+@/@/" <<<"$url")" -X -c 'select 1' 2>&1)" && fail 'a wrong password was taken'
has "$error" 'password authentication failed for user'

# On a busy machine psql may be interrupted before it has sent its query: then again, later.
for after in 1 5 25 125; do
    started=$SECONDS
    timeout --signal=INT "$after" psql "$url" -X -q -c 'select count(*) from platform.readings a, platform.readings b, platform.readings c
        where a.power_kw * b.power_kw > c.power_kw' >/dev/null 2>"$file" && fail 'a long query ended'
    if grep -qi 'cancel' "$file"; then break; fi
done
grep -qi 'cancel' "$file" || fail "not cancelled: $(cat "$file")"
[ $((SECONDS - started)) -le $((after + 60)) ] || fail 'the interrupted query went on'
psql --version
