package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/fault"
	"acquirer/hsm"
	"acquirer/hsm/audit"
	"acquirer/hsm/remote"
	"acquirer/merchant"
	"acquirer/store"
)

func newHSMRotateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Change the master key: wrap every stored key anew, then retire the old one",
		Long: `rotate makes a new master key beside the old one and brings every key that is
stored under it: the house's keys, the terminals' keys of both generations, and
those in the seed files that are named. The old master key only unwraps
meanwhile; both generations can be used. Interrupted anywhere, the same command
goes on where it stopped: progress is a row of the database.

When it has finished and every process that uses the keys was started again,
--retire forgets the old master key, after looking whether anything is still
under it. Name every seed file in use: what is not named is lost then.

Two people stand by: --custodian twice where a passphrase opens the master key
file; where components do, those of as many custodians as are needed, with
--component here or with acquirer hsm unseal in the HSM's process.

It opens the database itself: an embedded one only while acquirer serve is stopped.`,
		Example: `  acquirer hsm rotate --config acquirer.yaml --seed-file street.json --custodian alice --custodian bob
  acquirer hsm rotate --config acquirer.yaml --seed-file street.json --custodian alice --custodian bob --retire`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	r := rotation{}
	f := cmd.Flags()
	f.StringArrayVar(&r.custodians, "custodian", nil, "name of a custodian who stands by; twice, different")
	f.StringArrayVar(&r.seeds, "seed-file", nil, "seed file with key blocks to wrap anew; may be repeated")
	f.BoolVar(&r.retire, "retire", false, "forget the old master key, once nothing is under it")
	f.IntVar(&r.batch, "batch", 200, "terminals in one write")
	asJSON := f.Bool("json", false, "print the result as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(cmd.Flags())
		if err != nil {
			return err
		}
		if r.batch < 1 {
			return usageError{errors.New("--batch must be at least 1")}
		}
		if err := remote.TwoPeople(r.custodians); err != nil {
			return usageError{err}
		}
		// A seed file with a slip in its name is found before anything changes.
		for _, name := range r.seeds {
			if _, err := seedBlocks(name); err != nil {
				return usageError{err}
			}
		}
		r.cfg, r.progress = cfg, cmd.ErrOrStderr()
		var out rotationResult
		err = withStore(cmd.Context(), cfg, func(db *store.DB) error {
			r.db = db
			out, err = r.run(cmd.Context())
			return err
		})
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
		}
		return out.print(cmd.OutOrStdout())
	}
	return cmd
}

// rotation is one call of the command.
type rotation struct {
	cfg        Config
	db         *store.DB
	custodians []string
	seeds      []string
	retire     bool
	batch      int
	progress   io.Writer

	keeper hsm.Keeper
	log    *audit.Log     // kind software
	client *remote.Client // kind remote
}

// rotationResult is what it came to.
type rotationResult struct {
	New      string `json:"new_master"`
	Old      string `json:"old_master"`
	Moved    int64  `json:"moved"` // key blocks of the database wrapped anew, over all calls
	Seeds    int    `json:"seed_keys"`
	Finished bool   `json:"finished"`
	Retired  bool   `json:"retired"`
}

func (o rotationResult) print(w io.Writer) error {
	if o.Retired {
		_, err := fmt.Fprintf(w, "master key %s is retired; %s is the only one\ncopies of the master key file made before today are out of date\n", o.Old, o.New)
		return err
	}
	_, err := fmt.Fprintf(w, "master key  %s, before it %s\nmoved       %d key blocks of the database, %d of seed files\nnext        start every process that uses these keys again, then acquirer hsm rotate --retire\n",
		o.New, o.Old, o.Moved, o.Seeds)
	return err
}

func (r *rotation) run(ctx context.Context) (out rotationResult, err error) {
	masters, err := r.open(ctx)
	if err != nil {
		return out, err
	}
	defer func() {
		if r.client != nil {
			err = errors.Join(err, r.client.Close())
		} else if r.log != nil {
			err = errors.Join(err, r.log.Close())
		}
	}()
	switch {
	case len(masters) == 1 && r.retire:
		// A call that was interrupted after the key file had forgotten the old one.
		if out.Old, err = r.unnoted(ctx, masters[0]); err != nil {
			return out, err
		}
		out.New, out.Finished, out.Retired = masters[0], true, true
		return out, r.finish(ctx, out.New, "retired")
	case len(masters) == 1:
		if masters, err = r.change(ctx, remote.Rotate); err != nil {
			return out, err
		}
		r.say("new master key %s; %s only unwraps from now on", masters[0], masters[1])
	default:
		r.say("going on from master key %s to %s", masters[1], masters[0])
	}
	out.New, out.Old = masters[0], masters[1]
	if err := r.note(ctx, masters); err != nil {
		return out, err
	}
	// What was written under the old key while this ran is found by looking
	// again: a switch that was not told of the change still may.
	for pass := 1; ; pass++ {
		if out.Moved, err = r.move(ctx, out.New); err != nil {
			return out, err
		}
		left, err := r.left(ctx, out.New)
		if err != nil {
			return out, err
		}
		if left == 0 {
			break
		}
		if pass == 3 {
			return out, fmt.Errorf("%d keys are under the old master key %s again: somebody still wraps under it; restart the switch with the new master key file and run this again", left, out.Old)
		}
		if err := r.rewind(ctx, out.New); err != nil {
			return out, err
		}
	}
	for _, name := range r.seeds {
		n, err := r.moveSeed(ctx, name)
		if err != nil {
			return out, err
		}
		out.Seeds += n
	}
	if err := r.finish(ctx, out.New, "finished"); err != nil {
		return out, err
	}
	out.Finished = true
	if !r.retire {
		return out, nil
	}
	if _, err := r.change(ctx, remote.Retire); err != nil {
		return out, err
	}
	out.Retired = true
	return out, r.finish(ctx, out.New, "retired")
}

func (r *rotation) say(format string, args ...any) {
	fmt.Fprintf(r.progress, format+"\n", args...)
}

// open opens the HSM, and says which master keys it has.
func (r *rotation) open(ctx context.Context) (masters []string, err error) {
	if r.cfg.HSM.Kind == "remote" {
		if err := served(ctx, r.cfg.HSM.Socket); err != nil {
			return nil, err
		}
		r.client = remote.Dial(remote.DialConfig{Socket: r.cfg.HSM.Socket, Timeout: time.Minute})
		r.keeper = r.client
		all, err := r.client.Masters(ctx)
		if err != nil {
			return nil, errors.Join(err, r.client.Close())
		}
		for _, m := range all {
			masters = append(masters, m.String())
		}
		return masters, nil
	}
	ring, err := r.ring(nil)
	if err != nil {
		return nil, err
	}
	defer ring.Wipe()
	h, err := openRing(ring, auditFile(r.cfg.HSM.File, r.cfg.HSM.Audit))
	if err != nil {
		return nil, err
	}
	r.keeper, r.log = h.inside, h.log
	for _, m := range ring.Masters() {
		masters = append(masters, m.CheckValue)
	}
	return masters, nil
}

// ring opens the master key file, after a change when there is one to make.
func (r *rotation) ring(change func(k *hsm.KeyFile, secret []byte) (*hsm.Ring, error)) (*hsm.Ring, error) {
	k, err := hsm.ReadKeyFile(r.cfg.HSM.File)
	if err != nil {
		return nil, err
	}
	if k.Custodians != nil {
		return nil, fmt.Errorf("hsm: %s: %w (%s): run acquirer hsm serve, have them enter their components, and set hsm.kind to remote", r.cfg.HSM.File, hsm.ErrCustodians, k.Custodians)
	}
	pass, err := r.cfg.passphrase()
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	if change == nil {
		return k.Open(pass)
	}
	return change(k, pass)
}

// change makes a new master key, or forgets the old one.
func (r *rotation) change(ctx context.Context, c remote.Change) (masters []string, err error) {
	if r.client != nil {
		var pass []byte
		if s, err := r.client.Status(ctx); err != nil {
			return nil, err
		} else if s.OpenedBy == "passphrase" {
			if pass, err = r.cfg.passphrase(); err != nil {
				return nil, err
			}
			defer clear(pass)
		}
		return r.client.Change(ctx, c, r.custodians, pass)
	}
	ring, err := r.ring(func(k *hsm.KeyFile, secret []byte) (*hsm.Ring, error) { return remote.ChangeFile(k, c, secret) })
	e := audit.Entry{Op: string(c), Who: whoRuns(), Custodians: r.custodians}
	if err == nil {
		for _, m := range ring.Masters() {
			masters = append(masters, m.CheckValue)
		}
		e.KCV, e.Note = masters[0], strings.Join(masters, " before it ")
		defer ring.Wipe()
		h, failed := ring.Software()
		if failed != nil {
			return nil, failed
		}
		r.keeper = h
	} else {
		e.Error = err.Error()
	}
	if failed := r.log.Append(e); failed != nil {
		return nil, errors.Join(err, failed)
	}
	return masters, err
}

// note writes the row that says how far it is, if it is not there.
func (r *rotation) note(ctx context.Context, masters []string) error {
	fault.Hit("rotate.begin.before")
	err := r.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`insert into hsm_rotation (new_master, old_master, custodians, started, after_tid, moved, finished, retired)
			values ($1, $2, $3, $4, '', 0, 0, 0) on conflict (new_master) do nothing`, masters[0], masters[1], strings.Join(r.custodians, ", "), time.Now().UnixMicro())
		return err
	})
	fault.Hit("rotate.begin.after")
	return err
}

// move brings what is under the old master key under the new one, from where
// the row says. It returns how many it were, over all calls.
func (r *rotation) move(ctx context.Context, master string) (moved int64, err error) {
	if err := r.moveHouse(ctx, master); err != nil {
		return 0, err
	}
	var after string
	err = r.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select after_tid, moved from hsm_rotation where new_master = $1", master).Scan(&after, &moved)
	})
	if err != nil {
		return 0, err
	}
	for {
		blocks, last, _, err := merchant.KeyBlocks(ctx, r.db, after, r.batch, 0)
		if err != nil {
			return 0, err
		}
		var changes []merchant.NewKeyBlock
		for _, b := range blocks {
			under, err := r.keeper.Rewrap(ctx, hsm.Key(b.Block))
			if err != nil {
				return 0, fmt.Errorf("%s of terminal %s: %w", b.Slot, b.TID, err)
			}
			if string(under) != b.Block {
				changes = append(changes, merchant.NewKeyBlock{KeyBlock: b, Under: string(under)})
			}
		}
		through := last
		if through == "" && len(blocks) > 0 {
			through = blocks[len(blocks)-1].TID
		}
		if through == "" {
			return moved, nil
		}
		n, err := merchant.ReplaceKeyBlocks(ctx, r.db, changes, func(tx store.Tx, replaced int64) error {
			_, err := tx.Exec("update hsm_rotation set after_tid = $1, moved = moved + $2 where new_master = $3", through, replaced, master)
			return err
		})
		if err != nil {
			return 0, err
		}
		moved += n
		r.say("terminals up to %s: %d key blocks moved", through, moved)
		if after = last; last == "" {
			return moved, nil
		}
	}
}

// moveHouse is move for the house's own keys.
func (r *rotation) moveHouse(ctx context.Context, master string) error {
	keys, err := houseKeys(ctx, r.db)
	if err != nil {
		return err
	}
	for _, k := range keys {
		under, err := r.keeper.Rewrap(ctx, k.Block)
		if err != nil {
			return fmt.Errorf("the house's %s key: %w", k.Slot, err)
		}
		if under == k.Block {
			continue
		}
		fault.Hit("rotate.house.before")
		err = r.db.Write(ctx, func(tx store.Tx) error {
			n, err := tx.Exec("update house_key set block = $1 where name = $2 and block = $3", string(under), k.Slot, string(k.Block))
			if err == nil {
				_, err = tx.Exec("update hsm_rotation set moved = moved + $1 where new_master = $2", n, master)
			}
			return err
		})
		fault.Hit("rotate.house.after")
		if err != nil {
			return err
		}
		r.say("the house's %s key moved", k.Slot)
	}
	return nil
}

// left counts the stored keys that are not under the new master key.
func (r *rotation) left(ctx context.Context, master string) (n int, err error) {
	look := func(what string, k hsm.Key) error {
		i, err := r.keeper.Inspect(ctx, k)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if i.Master.String() != master {
			n++
		}
		return nil
	}
	house, err := houseKeys(ctx, r.db)
	if err != nil {
		return 0, err
	}
	for _, k := range house {
		if err := look("the house's "+k.Slot+" key", k.Block); err != nil {
			return 0, err
		}
	}
	for after := ""; ; {
		blocks, last, _, err := merchant.KeyBlocks(ctx, r.db, after, 500, 0)
		if err != nil {
			return 0, err
		}
		for _, b := range blocks {
			if err := look(b.Slot+" of terminal "+b.TID, hsm.Key(b.Block)); err != nil {
				return 0, err
			}
		}
		if after = last; last == "" {
			return n, nil
		}
	}
}

// rewind has the next pass look at every terminal again.
func (r *rotation) rewind(ctx context.Context, master string) error {
	fault.Hit("rotate.rewind.before")
	err := r.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("update hsm_rotation set after_tid = '' where new_master = $1", master)
		return err
	})
	fault.Hit("rotate.rewind.after")
	return err
}

// finish notes the time of an end.
func (r *rotation) finish(ctx context.Context, master, column string) error {
	fault.Hit("rotate.finish.before")
	err := r.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("update hsm_rotation set "+column+" = $1 where new_master = $2 and "+column+" = 0", time.Now().UnixMicro(), master)
		return err
	})
	fault.Hit("rotate.finish.after")
	return err
}

// unnoted is the old master key of a change whose end was not noted yet.
func (r *rotation) unnoted(ctx context.Context, master string) (old string, err error) {
	err = r.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select old_master from hsm_rotation where new_master = $1 and finished > 0 and retired = 0", master).Scan(&old)
	})
	if errors.Is(err, store.ErrNotFound) {
		return "", fmt.Errorf("there is no old master key to retire: %s is the only one", master)
	}
	return old, err
}

// seedBlocks are the key blocks of a seed file.
func seedBlocks(name string) (blocks []string, err error) {
	seed, err := merchant.LoadSeed(name)
	if err != nil {
		return nil, err
	}
	issuers, err := readIssuers(seed)
	if err != nil {
		return nil, err
	}
	for _, t := range seed.Terminals {
		blocks = append(blocks, t.TMK, t.TTK)
	}
	for _, k := range seed.BaseKeys {
		blocks = append(blocks, k.BDK)
	}
	for _, is := range issuers {
		blocks = append(blocks, string(is.ZMK))
	}
	return blocks, nil
}

// moveSeed wraps the key blocks of a seed file anew, in their places: the
// text stays as it is but for them. The file is the old one or the new one,
// whatever happens.
func (r *rotation) moveSeed(ctx context.Context, name string) (int, error) {
	blocks, err := seedBlocks(name)
	if err != nil {
		return 0, usageError{err}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, b := range blocks {
		if b == "" {
			continue
		}
		under, err := r.keeper.Rewrap(ctx, hsm.Key(b))
		if err != nil {
			return 0, fmt.Errorf("%s: the key block %s...: %w", name, b[:min(len(b), 16)], err)
		}
		if string(under) == b {
			continue
		}
		changed := bytes.ReplaceAll(text, []byte(`"`+b+`"`), []byte(`"`+string(under)+`"`))
		if bytes.Equal(changed, text) {
			return 0, fmt.Errorf("%s: a key block is not written as it is read; write it without escapes", name)
		}
		text = changed
		n++
	}
	if n == 0 {
		return 0, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	if err := hsm.ReplaceFile(name, text, info.Mode().Perm()); err != nil {
		return 0, err
	}
	r.say("%s: %d key blocks moved", name, n)
	return n, nil
}
