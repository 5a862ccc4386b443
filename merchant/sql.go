package merchant

import (
	"errors"
	"fmt"
	"time"

	"acquirer/store"
)

// Schema is the merchants and terminals. Every change takes the next number of
// merchant_version and writes it into the row, so that another node finds what
// it has not seen by one comparison.
var Schema = store.Schema{Name: "merchant", Steps: []string{`
create table merchant_version (
	id      BIGINT primary key,
	version BIGINT not null
);
insert into merchant_version (id, version) values (1, 0);
create table merchant (
	mid            TEXT primary key,
	name           TEXT not null,
	mcc            TEXT not null,
	status         TEXT not null,
	city           TEXT not null,
	area           TEXT not null,
	plan           TEXT not null,
	speed          TEXT not null,
	tier           TEXT not null,
	account_sealed BYTEA,
	account_masked TEXT not null,
	account_name   TEXT not null,
	account_bank   TEXT not null,
	account_class  INTEGER not null,
	version        BIGINT not null
);
create table merchant_terminal (
	tid        TEXT primary key,
	mid        TEXT not null,
	serial     TEXT not null,
	status     TEXT not null,
	mac        TEXT not null,
	shape      TEXT not null,
	key_set    INTEGER not null,
	tmk        TEXT not null,
	tpk        TEXT not null,
	tak        TEXT not null,
	tdk        TEXT not null,
	generation BIGINT not null,
	signed_in  BIGINT not null,
	old_tpk    TEXT not null,
	old_tak    TEXT not null,
	old_tdk    TEXT not null,
	old_generation BIGINT not null,
	old_signed_in  BIGINT not null,
	batch      INTEGER not null,
	version    BIGINT not null
);
create index merchant_changed on merchant (version);
create index merchant_terminal_changed on merchant_terminal (version)`, `
alter table merchant_terminal add column track TEXT not null default 'tdb';
alter table merchant_terminal add column batch_rule TEXT not null default 'follow';
alter table merchant_terminal add column delivery TEXT not null default '';
alter table merchant_terminal add column unlinked BIGINT not null default 0;
alter table merchant_terminal add column signature INTEGER not null default 0;
alter table merchant_terminal add column ttk TEXT not null default ''`, `
alter table merchant_terminal add column pin TEXT not null default 'static'`, `
alter table merchant_terminal add column since INTEGER not null default 0; -- day on which it was registered, 0 before such days were kept
create table merchant_plan (
	code      TEXT not null,
	version   INTEGER not null,
	body      TEXT not null,    -- the FeePlan as JSON, without its dates; never changed
	effective INTEGER not null, -- from when new merchants sign it; 0 not announced
	notice    INTEGER not null, -- when it was announced
	change    BIGINT not null,
	primary key (code, version)
);
create table merchant_mcc_class (
	mcc    TEXT primary key,
	class  TEXT not null,
	change BIGINT not null
);
create table merchant_contract (
	id      BIGINT primary key,
	mid     TEXT not null,
	plan    TEXT not null,
	version INTEGER not null,   -- of the plan, as signed
	mcc     TEXT not null,
	signed  INTEGER not null,
	change  BIGINT not null
);
create index merchant_contract_changed on merchant_contract (change);
create table merchant_notice (
	mid       TEXT not null,
	plan      TEXT not null,
	version   INTEGER not null,
	told      INTEGER not null,
	effective INTEGER not null, -- at least 30 days after told
	consent   TEXT not null,    -- silent, agreed or objected
	decided   INTEGER not null, -- when the merchant answered, 0 when it did not
	starts    INTEGER not null, -- from when the version prices its sales, 0 never
	text      TEXT not null,    -- what the merchant is sent
	change    BIGINT not null,
	primary key (mid, plan, version)
);
create index merchant_notice_changed on merchant_notice (change)`, `
alter table merchant add column account_changed BIGINT not null default 0 -- when the settlement account became another one, microseconds; 0 for the first`}}

const merchantColumns = `mid, name, mcc, status, city, area, plan, speed, tier,
	account_sealed, account_masked, account_name, account_bank, account_class, version, account_changed`

const terminalColumns = `tid, mid, serial, status, mac, shape, key_set, tmk, tpk, tak, tdk, generation, signed_in,
	old_tpk, old_tak, old_tdk, old_generation, old_signed_in, batch, version,
	track, batch_rule, delivery, unlinked, signature, ttk, pin, since`

func scanMerchant(r *store.Rows, m *Merchant) error {
	var changed int64
	defer func() { m.Account.changed(changed) }()
	return r.Scan(&m.MID, &m.Name, &m.MCC, &m.Status, &m.City, &m.Area, &m.Plan, &m.Speed, &m.Tier,
		&m.Account.Sealed, &m.Account.Masked, &m.Account.Name, &m.Account.Bank, &m.Account.Class, &m.Version, &changed)
}

// changed sets when the account became another one, from microseconds.
func (a *Account) changed(us int64) {
	if a.Changed = (time.Time{}); us != 0 {
		a.Changed = time.UnixMicro(us)
	}
}

func scanTerminal(r *store.Rows, t *Terminal) error {
	var signature int
	defer func() { t.Profile.Signature = signature != 0 }()
	return r.Scan(&t.TID, &t.MID, &t.Serial, &t.Status, &t.Profile.MAC, &t.Profile.Shape, &t.Profile.KeySet, &t.TMK,
		&t.Keys.TPK, &t.Keys.TAK, &t.Keys.TDK, &t.Keys.Generation, &t.Keys.SignedIn,
		&t.Previous.TPK, &t.Previous.TAK, &t.Previous.TDK, &t.Previous.Generation, &t.Previous.SignedIn, &t.Batch, &t.Version,
		&t.Profile.Track, &t.Profile.Batch, &t.Profile.Delivery, &t.Profile.Unlinked, &signature, &t.TTK, &t.Profile.PIN, &t.Since)
}

// nextVersion takes the next number. On PostgreSQL its row lock is held to the
// end of the transaction, so numbers become visible in their order.
func nextVersion(tx store.Tx) (int64, error) {
	var v int64
	err := tx.QueryRow("update merchant_version set version = version + 1 where id = 1 returning version").Scan(&v)
	return v, err
}

func readVersion(tx store.Tx) (v int64, err error) {
	err = tx.QueryRow("select version from merchant_version where id = 1").Scan(&v)
	return v, err
}

// saveMerchant writes m and sets when its account changed: a number that was
// only sealed anew is the same account.
func saveMerchant(tx store.Tx, m *Merchant) error {
	var changed int64
	err := tx.QueryRow(`insert into merchant (`+merchantColumns+`)
		values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,0)
		on conflict (mid) do update set name = excluded.name, mcc = excluded.mcc, status = excluded.status, city = excluded.city,
			area = excluded.area, plan = excluded.plan, speed = excluded.speed, tier = excluded.tier,
			account_sealed = excluded.account_sealed, account_masked = excluded.account_masked, account_name = excluded.account_name,
			account_bank = excluded.account_bank, account_class = excluded.account_class, version = excluded.version,
			account_changed = case when merchant.account_masked = '' or merchant.account_masked = excluded.account_masked and merchant.account_name = excluded.account_name
				and merchant.account_bank = excluded.account_bank then merchant.account_changed else $16 end
		returning account_changed`,
		m.MID, m.Name, m.MCC, m.Status, m.City, m.Area, m.Plan, m.Speed, m.Tier,
		m.Account.Sealed, m.Account.Masked, m.Account.Name, m.Account.Bank, m.Account.Class, m.Version, time.Now().UnixMicro()).Scan(&changed)
	m.Account.changed(changed)
	return err
}

func saveTerminal(tx store.Tx, t *Terminal) error {
	signature := 0
	if t.Profile.Signature {
		signature = 1
	}
	_, err := tx.Exec(`insert into merchant_terminal (`+terminalColumns+`)
		values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27,$28)
		on conflict (tid) do update set mid = excluded.mid, serial = excluded.serial, status = excluded.status, mac = excluded.mac,
			shape = excluded.shape, key_set = excluded.key_set, tmk = excluded.tmk, tpk = excluded.tpk, tak = excluded.tak, tdk = excluded.tdk,
			generation = excluded.generation, signed_in = excluded.signed_in, old_tpk = excluded.old_tpk, old_tak = excluded.old_tak,
			old_tdk = excluded.old_tdk, old_generation = excluded.old_generation, old_signed_in = excluded.old_signed_in,
			batch = excluded.batch, version = excluded.version, track = excluded.track, batch_rule = excluded.batch_rule,
			delivery = excluded.delivery, unlinked = excluded.unlinked, signature = excluded.signature, ttk = excluded.ttk, pin = excluded.pin`,
		t.TID, t.MID, t.Serial, t.Status, t.Profile.MAC, t.Profile.Shape, t.Profile.KeySet, t.TMK,
		t.Keys.TPK, t.Keys.TAK, t.Keys.TDK, t.Keys.Generation, t.Keys.SignedIn,
		t.Previous.TPK, t.Previous.TAK, t.Previous.TDK, t.Previous.Generation, t.Previous.SignedIn, t.Batch, t.Version,
		t.Profile.Track, t.Profile.Batch, t.Profile.Delivery, t.Profile.Unlinked, signature, t.TTK, t.Profile.PIN, t.Since)
	return err
}

// lockTerminal reads a terminal's row and keeps others from changing it until
// the transaction ends.
func lockTerminal(tx store.Tx, tid string) (*Terminal, error) {
	rows, err := tx.Query("select "+terminalColumns+" from merchant_terminal where tid = $1 for update", tid)
	all, err := store.All(rows, err, scanTerminal)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: terminal %q", ErrUnknown, tid)
	}
	return &all[0], nil
}

func hasMerchant(tx store.Tx, mid string) (bool, error) {
	var one int
	err := tx.QueryRow("select 1 from merchant where mid = $1", mid).Scan(&one)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
