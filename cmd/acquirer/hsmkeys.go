package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"acquirer/fault"
	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/store"
)

// registrySchema is what is known of every key that the house stores, never
// the key: whose it is, what it is for, its check value, and when it was made,
// changed, and has to be changed again. And the changes of the master key.
var registrySchema = store.Schema{Name: "hsm", Steps: []string{`
create table hsm_key (
	owner   TEXT not null,   -- house, terminal TID, issuer NAME
	slot    TEXT not null,   -- which of its keys: tmk, old_tpk, zmk, data, ...
	use     TEXT not null,   -- TMK, TPK, DEK, ...
	alg     TEXT not null,
	kcv     TEXT not null,   -- check value, 8 hex digits
	master  TEXT not null,   -- check value of the master key above it
	block   TEXT not null,   -- SHA-256 of the key block
	created BIGINT not null, -- microseconds since 1970: the first key in this place
	rolled  BIGINT not null, -- and this one
	expires BIGINT not null, -- 0: never
	gone    BIGINT not null, -- when the place was found empty; 0: it is not
	primary key (owner, slot)
);
create table hsm_rotation (
	new_master TEXT primary key, -- check values
	old_master TEXT not null,
	custodians TEXT not null,
	started    BIGINT not null,
	after_tid  TEXT not null,    -- terminals up to here are done
	moved      BIGINT not null,  -- key blocks brought under the new master key
	finished   BIGINT not null,
	retired    BIGINT not null
)`}}

// keyPlace is a key block and where it stands.
type keyPlace struct {
	Owner, Slot string
	Block       hsm.Key
	Since       int64 // when it came, if that is known
}

// registeredKey is a row of the registry.
type registeredKey struct {
	Owner   string    `json:"owner"`
	Slot    string    `json:"slot"`
	Use     string    `json:"use"`
	Alg     string    `json:"algorithm"`
	KCV     string    `json:"check_value"`
	Master  string    `json:"master"`
	Created time.Time `json:"created"`
	Rolled  time.Time `json:"rolled"`
	Expires time.Time `json:"expires,omitzero"`

	block string
}

// keyBook keeps the registry in step with the keys that are stored.
type keyBook struct {
	db       *store.DB
	keeper   hsm.Keeper
	periods  map[string]time.Duration
	baseKeys []merchant.BaseKey
	issuers  []issuerConfig

	known   map[[2]string]string // SHA-256 of the block by owner and slot
	version int64                // of the terminals that were seen

	mu   sync.Mutex
	uses []useOfKeys
}

// useOfKeys is what the metrics say of one use.
type useOfKeys struct {
	Use     string `json:"use"`
	Count   int64  `json:"keys"`
	Oldest  int64  `json:"-"` // microseconds since 1970
	Expires int64  `json:"-"` // the first; 0 when none does
}

func newKeyBook(db *store.DB, k hsm.Keeper, cfg Config, issuers []issuerConfig) (*keyBook, error) {
	periods, err := parsePeriods(cfg.HSM.Periods)
	if err != nil {
		return nil, usageError{fmt.Errorf("hsm.periods: %w", err)}
	}
	return &keyBook{db: db, keeper: k, periods: periods, issuers: issuers, baseKeys: cfg.baseKeys}, nil
}

// sync brings the registry up to date. The first time it reads every key, and
// notes those that are gone; later only what terminals changed.
func (b *keyBook) sync(ctx context.Context, now time.Time) error {
	whole := b.known == nil
	if whole {
		if err := b.load(ctx); err != nil {
			return err
		}
	}
	var places []keyPlace
	house, err := houseKeys(ctx, b.db)
	if err != nil {
		return err
	}
	places = append(places, house...)
	for _, is := range b.issuers {
		if is.ZMK != "" {
			places = append(places, keyPlace{"issuer " + is.Name, "zmk", is.ZMK, 0})
		}
	}
	for _, k := range b.baseKeys {
		places = append(places, keyPlace{"terminals " + k.KSI, "bdk", hsm.Key(k.BDK), 0})
	}
	seen := map[[2]string]bool{}
	put := func(places []keyPlace) error {
		for _, p := range places {
			seen[[2]string{p.Owner, p.Slot}] = true
		}
		return b.put(ctx, places, now)
	}
	if err := put(places); err != nil {
		return err
	}
	version, newest := b.version, b.version
	for after := ""; ; {
		blocks, last, v, err := merchant.KeyBlocks(ctx, b.db, after, 500, version)
		if err != nil {
			return err
		}
		places = places[:0]
		for _, k := range blocks {
			places = append(places, keyPlace{"terminal " + k.TID, k.Slot, hsm.Key(k.Block), k.Since})
		}
		if err := put(places); err != nil {
			return err
		}
		newest = max(newest, v)
		if after = last; last == "" {
			break
		}
	}
	b.version = newest
	if whole {
		if err := b.missing(ctx, seen, now); err != nil {
			return err
		}
	}
	return b.count(ctx)
}

// load reads what the registry knows.
func (b *keyBook) load(ctx context.Context) error {
	all, err := listKeys(ctx, b.db)
	if err != nil {
		return err
	}
	b.known = map[[2]string]string{}
	for _, k := range all {
		b.known[[2]string{k.Owner, k.Slot}] = k.block
	}
	return nil
}

func hashOfBlock(k hsm.Key) string {
	sum := sha256.Sum256([]byte(k))
	return hex.EncodeToString(sum[:])
}

// put registers what is new or changed among the places.
func (b *keyBook) put(ctx context.Context, places []keyPlace, now time.Time) error {
	type row struct {
		keyPlace
		info hsm.KeyInfo
		hash string
	}
	var rows []row
	for _, p := range places {
		h := hashOfBlock(p.Block)
		if b.known[[2]string{p.Owner, p.Slot}] == h {
			continue
		}
		info, err := b.keeper.Inspect(ctx, p.Block)
		if err != nil {
			return fmt.Errorf("key %s of %s: %w", p.Slot, p.Owner, err)
		}
		rows = append(rows, row{p, info, h})
	}
	if len(rows) == 0 {
		return nil
	}
	fault.Hit("house.keybook.before")
	err := b.db.Write(ctx, func(tx store.Tx) error {
		for _, r := range rows {
			since := r.Since
			if since == 0 {
				since = now.UnixMicro()
			}
			expires := int64(0)
			if d := b.periods[periodOf(r.info.Use)]; d > 0 {
				expires = since + d.Microseconds()
			}
			// Wrapped anew it is the same key; another check value is another key.
			if _, err := tx.Exec(`insert into hsm_key (owner, slot, use, alg, kcv, master, block, created, rolled, expires, gone)
				values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)
				on conflict (owner, slot) do update set use = excluded.use, alg = excluded.alg, master = excluded.master, block = excluded.block, gone = 0,
					rolled = case when hsm_key.kcv = excluded.kcv then hsm_key.rolled else excluded.rolled end,
					expires = case when hsm_key.kcv = excluded.kcv then hsm_key.expires else excluded.expires end,
					kcv = excluded.kcv`,
				r.Owner, r.Slot, r.info.Use.String(), r.info.Alg.String(), r.info.KCV.String(), r.info.Master.String(), r.hash, since, since, expires); err != nil {
				return err
			}
		}
		return nil
	})
	fault.Hit("house.keybook.after")
	if err != nil {
		return fmt.Errorf("the key registry: %w", err)
	}
	for _, r := range rows {
		b.known[[2]string{r.Owner, r.Slot}] = r.hash
	}
	return nil
}

// periodOf is the use whose period a use has: a MAC key's mechanism does not
// change how long it is good for.
func periodOf(u hsm.Use) string {
	name := u.String()
	for _, mac := range []string{"TAK", "ZAK"} {
		if strings.HasPrefix(name, mac) {
			return mac
		}
	}
	return name
}

// missing notes the keys that are nowhere any more.
func (b *keyBook) missing(ctx context.Context, seen map[[2]string]bool, now time.Time) error {
	var gone [][2]string
	for place := range b.known {
		if !seen[place] && !strings.HasPrefix(place[0], "issuer ") { // a seed that is not loaded says nothing
			gone = append(gone, place)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	fault.Hit("keybook.gone.before")
	err := b.db.Write(ctx, func(tx store.Tx) error {
		for _, g := range gone {
			if _, err := tx.Exec("update hsm_key set gone = $1 where owner = $2 and slot = $3 and gone = 0", now.UnixMicro(), g[0], g[1]); err != nil {
				return err
			}
		}
		return nil
	})
	fault.Hit("keybook.gone.after")
	return err
}

// count is what the metrics say.
func (b *keyBook) count(ctx context.Context) error {
	uses, err := keysByUse(ctx, b.db)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.uses = uses
	b.mu.Unlock()
	return nil
}

func keysByUse(ctx context.Context, db *store.DB) (uses []useOfKeys, err error) {
	err = db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select use, count(*), min(rolled), coalesce(min(nullif(expires, 0)), 0) from hsm_key where gone = 0 group by use order by use`)
		uses, err = store.All(rows, err, func(r *store.Rows, u *useOfKeys) error { return r.Scan(&u.Use, &u.Count, &u.Oldest, &u.Expires) })
		return err
	})
	return uses, err
}

// run keeps the registry in step until ctx ends.
func (b *keyBook) run(ctx context.Context, every time.Duration, report func(error)) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if err := b.sync(ctx, time.Now()); err != nil && ctx.Err() == nil {
			report(err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

var (
	keysDesc    = prometheus.NewDesc("acquirer_hsm_keys", "Keys in the registry, by use.", []string{"use"}, nil)
	keyAgeDesc  = prometheus.NewDesc("acquirer_hsm_key_age_seconds", "Age of the oldest key of a use, since it was last changed.", []string{"use"}, nil)
	keyEndsDesc = prometheus.NewDesc("acquirer_hsm_key_expires_seconds", "Until the first key of a use has been in use for as long as hsm.periods allows; below zero it has been longer.", []string{"use"}, nil)
)

// Describe and Collect make the book a prometheus.Collector.
func (b *keyBook) Describe(ch chan<- *prometheus.Desc) {
	ch <- keysDesc
	ch <- keyAgeDesc
	ch <- keyEndsDesc
}

func (b *keyBook) Collect(ch chan<- prometheus.Metric) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, u := range b.uses {
		ch <- prometheus.MustNewConstMetric(keysDesc, prometheus.GaugeValue, float64(u.Count), u.Use)
		ch <- prometheus.MustNewConstMetric(keyAgeDesc, prometheus.GaugeValue, max(0, now.Sub(time.UnixMicro(u.Oldest)).Seconds()), u.Use)
		if u.Expires > 0 {
			ch <- prometheus.MustNewConstMetric(keyEndsDesc, prometheus.GaugeValue, time.UnixMicro(u.Expires).Sub(now).Seconds(), u.Use)
		}
	}
}

// houseKeys are the house's own keys.
func houseKeys(ctx context.Context, db *store.DB) (all []keyPlace, err error) {
	err = db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select name, block, made from house_key order by name")
		all, err = store.All(rows, err, func(r *store.Rows, p *keyPlace) error {
			p.Owner = "house"
			return r.Scan(&p.Slot, &p.Block, &p.Since)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the house's keys: %w", err)
	}
	return all, nil
}

// listKeys gives all rows of the registry that are not gone.
func listKeys(ctx context.Context, db *store.DB) (all []registeredKey, err error) {
	err = db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select owner, slot, use, alg, kcv, master, block, created, rolled, expires from hsm_key where gone = 0 order by owner, slot")
		all, err = store.All(rows, err, func(r *store.Rows, k *registeredKey) error {
			var created, rolled, expires int64
			err := r.Scan(&k.Owner, &k.Slot, &k.Use, &k.Alg, &k.KCV, &k.Master, &k.block, &created, &rolled, &expires)
			k.Created, k.Rolled = time.UnixMicro(created).UTC(), time.UnixMicro(rolled).UTC()
			if expires > 0 {
				k.Expires = time.UnixMicro(expires).UTC()
			}
			return err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the key registry: %w", err)
	}
	return all, nil
}

// withStore opens the store for a command that stands beside the switch.
func withStore(ctx context.Context, cfg Config, do func(*store.DB) error) error {
	if err := makeFolder(cfg.Database); err != nil {
		return err
	}
	db, err := openBeside(ctx, cfg)
	if err != nil {
		return err
	}
	err = do(db)
	if closed := db.Close(); err == nil {
		err = closed
	}
	return err
}

func newHSMKeysCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "List every key that the house stores: owner, use, check value, age",
		Long: `keys brings the key registry up to date and lists it: whose key it is, what it is
for, its check value, under which master key it stands, when it was last changed
and when it has to be changed again (hsm.periods). Keys of issuers are those of
the seed, if one is named. No key is ever shown.

It opens the database itself: an embedded one only while acquirer serve is stopped.`,
		Example: `  acquirer hsm keys --config acquirer.yaml
  acquirer hsm keys --use ZMK --expired --json`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	f := cmd.Flags()
	use := f.String("use", "", "only keys of this use")
	expired := f.Bool("expired", false, "only keys past their time")
	asJSON := f.Bool("json", false, "print one JSON array")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, ok := hsm.ParseUse(strings.ToUpper(*use)); *use != "" && !ok {
			return usageError{fmt.Errorf("--use %q is no use of a key: TMK, ZMK, TPK, TAK... (docs/hsm.md)", *use)}
		}
		return withKeys(cmd, func(ctx context.Context, cfg Config, k hsm.Keeper, db *store.DB) error {
			var issuers []issuerConfig
			if cfg.Seed != "" && cfg.Seed != "demo" {
				var err error
				if _, issuers, err = loadSeed(ctx, cfg, k, nil); err != nil {
					return err
				}
			}
			book, err := newKeyBook(db, k, cfg, issuers)
			if err != nil {
				return err
			}
			now := time.Now()
			if err := book.sync(ctx, now); err != nil {
				return err
			}
			all, err := listKeys(ctx, db)
			if err != nil {
				return err
			}
			some := []registeredKey{}
			for _, k := range all {
				if (*use == "" || strings.EqualFold(*use, k.Use)) && (!*expired || !k.Expires.IsZero() && k.Expires.Before(now)) {
					some = append(some, k)
				}
			}
			if *asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(some)
			}
			return printKeys(cmd.OutOrStdout(), some)
		})
	}
	return cmd
}

func printKeys(w io.Writer, all []registeredKey) error {
	day := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.Format(time.DateOnly)
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "OWNER\tKEY\tUSE\tKIND\tCHECK VALUE\tMASTER\tCREATED\tROLLED\tEXPIRES")
	for _, k := range all {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Owner, k.Slot, k.Use, k.Alg, k.KCV[:6], k.Master[:6], day(k.Created), day(k.Rolled), day(k.Expires))
	}
	return out.Flush()
}

// withKeys opens settings, HSM and store for a command about keys.
func withKeys(cmd *cobra.Command, do func(ctx context.Context, cfg Config, k hsm.Keeper, db *store.DB) error) error {
	cfg, err := loadConfig(cmd.Flags())
	if err != nil {
		return err
	}
	log, closeLog, err := openLog(cfg, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer closeLog()
	if cfg.HSM.Kind == "payshield" {
		return usageError{errors.New("hsm.kind is payshield: its keys are kept by the devices' own custodians")}
	}
	k, err := openKeeper(cmd.Context(), cfg, log)
	if err != nil {
		return err
	}
	defer closeHSM(k, log)
	return withStore(cmd.Context(), cfg, func(db *store.DB) error { return do(cmd.Context(), cfg, k, db) })
}
