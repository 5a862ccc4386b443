package download

import (
	"errors"
	"maps"
	"slices"

	"acquirer/spec"
	"acquirer/store"
)

// Schema is what terminals download and what they have of it. Every change of
// the content takes the next number of row 1 of download_version, every change
// of a terminal that of row 2, so that another node finds what it has not seen
// by one comparison. download_changed keeps the number of the last change of a
// kind for the house (”) or one merchant or terminal.
var Schema = store.Schema{Name: "download", Steps: []string{`
create table download_version (
	id      BIGINT primary key, -- 1 content, 2 terminals
	version BIGINT not null
);
insert into download_version (id, version) values (1, 0);
insert into download_version (id, version) values (2, 0);
create table download_changed (
	kind    TEXT not null,
	scope   TEXT not null, -- '', MID or TID
	version BIGINT not null,
	primary key (kind, scope)
);
create table download_object (
	kind    TEXT not null,  -- ca_keys or applications
	name    TEXT not null,  -- RID/index or AID, in hex
	objects BYTEA not null, -- as a terminal gets them
	primary key (kind, name)
);
create table download_setting (
	scope TEXT not null, -- '', MID or TID
	tag   TEXT not null, -- two digits: a parameter; six characters: a contactless limit, in fen
	value TEXT not null,
	primary key (scope, tag)
);
create table download_black (
	entry  TEXT primary key, -- 4 to 12 digits that numbers begin with, or the hex token of one number
	sealed BYTEA             -- that number, sealed by the HSM
);
create table download_terminal (
	tid       TEXT primary key,
	started   TEXT not null,    -- version of each kind that it began to download
	held      TEXT not null,    -- version of each kind that it said it has
	asked     BIGINT not null,  -- demands of an operator, a bit each
	status    BYTEA,            -- what it last said of itself
	status_at BIGINT not null,  -- microseconds since 1970
	version   BIGINT not null
);
create index download_terminal_changed on download_terminal (version)`}}

// The rows of download_version.
const (
	ofContent   = 1
	ofTerminals = 2
)

// nextVersion takes the next number. On PostgreSQL its row lock is held to the
// end of the transaction, so numbers become visible in their order.
func nextVersion(tx store.Tx, of int) (int64, error) {
	var v int64
	err := tx.QueryRow("update download_version set version = version + 1 where id = $1 returning version", of).Scan(&v)
	return v, err
}

func readVersion(tx store.Tx, of int) (v int64, err error) {
	err = tx.QueryRow("select version from download_version where id = $1", of).Scan(&v)
	return v, err
}

// change is one writing of the content. Its number is taken first, whether
// anything turns out to differ or not, so that two nodes write one after the
// other.
type change struct {
	tx      store.Tx
	version int64
}

func (c *change) touch(k Kind, scope string) error {
	_, err := c.tx.Exec(`insert into download_changed (kind, scope, version) values ($1, $2, $3)
		on conflict (kind, scope) do update set version = excluded.version`, k.String(), scope, c.version)
	return err
}

type object struct {
	name  string
	bytes []byte
}

func scanObject(r *store.Rows, o *object) error { return r.Scan(&o.name, &o.bytes) }

func readObjects(tx store.Tx, k Kind) ([]object, error) {
	rows, err := tx.Query("select name, objects from download_object where kind = $1 order by name", k.String())
	return store.All(rows, err, scanObject)
}

// setObjects makes the objects of a kind those of want.
func (c *change) setObjects(k Kind, want map[string][]byte) error {
	have, err := readObjects(c.tx, k)
	if err != nil {
		return err
	}
	old := map[string][]byte{}
	for _, o := range have {
		old[o.name] = o.bytes
	}
	if maps.EqualFunc(old, want, slices.Equal) {
		return nil
	}
	if _, err := c.tx.Exec("delete from download_object where kind = $1", k.String()); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, err := c.tx.Exec("insert into download_object (kind, name, objects) values ($1, $2, $3)", k.String(), name, want[name]); err != nil {
			return err
		}
	}
	return c.touch(k, "")
}

type setting struct{ scope, tag, value string }

func scanSetting(r *store.Rows, s *setting) error { return r.Scan(&s.scope, &s.tag, &s.value) }

// set makes the settings of a scope those of want.
func (c *change) set(scope string, want map[string]string) error {
	rows, err := c.tx.Query("select scope, tag, value from download_setting where scope = $1", scope)
	have, err := store.All(rows, err, scanSetting)
	if err != nil {
		return err
	}
	old := map[string]string{}
	for _, s := range have {
		old[s.tag] = s.value
	}
	touched := map[Kind]bool{}
	for tag := range old {
		if _, still := want[tag]; !still {
			touched[kindOf(tag)] = true
			if _, err := c.tx.Exec("delete from download_setting where scope = $1 and tag = $2", scope, tag); err != nil {
				return err
			}
		}
	}
	for tag, value := range want {
		if v, there := old[tag]; there && v == value {
			continue
		}
		touched[kindOf(tag)] = true
		if _, err := c.tx.Exec(`insert into download_setting (scope, tag, value) values ($1, $2, $3)
			on conflict (scope, tag) do update set value = excluded.value`, scope, tag, value); err != nil {
			return err
		}
	}
	for k := range touched {
		if err := c.touch(k, scope); err != nil {
			return err
		}
	}
	return nil
}

// black is a row of the black list.
type black struct {
	entry  string
	sealed []byte
}

func scanBlack(r *store.Rows, b *black) error { return r.Scan(&b.entry, &b.sealed) }

// block adds what is not on the list yet.
func (c *change) block(entries []black) error {
	added := int64(0)
	for _, e := range entries {
		n, err := c.tx.Exec("insert into download_black (entry, sealed) values ($1, $2) on conflict (entry) do nothing", e.entry, e.sealed)
		if err != nil {
			return err
		}
		added += n
	}
	if added == 0 {
		return nil
	}
	return c.touch(BlackList, "")
}

// unblock takes an entry off the list; false when it was not on it.
func (c *change) unblock(entry string) (bool, error) {
	n, err := c.tx.Exec("delete from download_black where entry = $1", entry)
	if err != nil || n == 0 {
		return false, err
	}
	return true, c.touch(BlackList, "")
}

const terminalColumns = "tid, started, held, asked, status, status_at, version"

func scanTerminal(r *store.Rows, t *Terminal) error {
	var started, held string
	if err := r.Scan(&t.TID, &started, &held, &t.asked, &t.Status, &t.statusAt, &t.version); err != nil {
		return err
	}
	return errors.Join(t.started.read(started), t.Held.read(held))
}

// lockTerminal reads a terminal's row and keeps others from changing it until
// the transaction ends. A terminal without a row has an empty one.
func lockTerminal(tx store.Tx, tid string) (*Terminal, error) {
	rows, err := tx.Query("select "+terminalColumns+" from download_terminal where tid = $1 for update", tid)
	all, err := store.All(rows, err, scanTerminal)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return &Terminal{TID: tid}, nil
	}
	return &all[0], nil
}

func saveTerminal(tx store.Tx, t *Terminal) error {
	_, err := tx.Exec(`insert into download_terminal (`+terminalColumns+`) values ($1,$2,$3,$4,$5,$6,$7)
		on conflict (tid) do update set started = excluded.started, held = excluded.held, asked = excluded.asked,
			status = excluded.status, status_at = excluded.status_at, version = excluded.version`,
		t.TID, t.started.String(), t.Held.String(), int64(t.asked), t.Status, t.statusAt, t.version)
	return err
}

// readShelf reads the whole content.
func readShelf(tx store.Tx) (*shelf, error) {
	s := &shelf{keyAt: map[spec.CAKeyID]int{}, appAt: map[string]int{}, settings: map[string]map[string]string{}, small: map[string]amounts{},
		prefixes: map[string]struct{}{}, tokens: map[[16]byte]struct{}{}}
	for k := range s.changed {
		s.changed[k] = map[string]int64{}
	}
	var err error
	if s.version, err = readVersion(tx, ofContent); err != nil {
		return nil, err
	}
	rows, err := tx.Query("select kind, scope, version from download_changed")
	changed, err := store.All(rows, err, func(r *store.Rows, c *struct {
		kind, scope string
		version     int64
	}) error {
		return r.Scan(&c.kind, &c.scope, &c.version)
	})
	if err != nil {
		return nil, err
	}
	for _, c := range changed {
		if k := slices.Index(kindNames[:], c.kind); k >= 0 {
			s.changed[k][c.scope] = c.version
		}
	}
	if err := s.readObjects(tx); err != nil {
		return nil, err
	}
	rows, err = tx.Query("select scope, tag, value from download_setting")
	settings, err := store.All(rows, err, scanSetting)
	if err != nil {
		return nil, err
	}
	for _, v := range settings {
		if err := s.addSetting(v); err != nil {
			return nil, err
		}
	}
	rows, err = tx.Query("select entry, sealed from download_black order by entry")
	if s.black, err = store.All(rows, err, scanBlack); err != nil {
		return nil, err
	}
	return s, s.index()
}
