package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/settlement"
	"acquirer/store"
)

// Config is everything `acquirer serve` can be told. The key, the default and
// the meaning stand beside each field; docs/configuration.md is printed from
// them. A value comes from its default, then the file, then ACQUIRER_*
// variables, then flags, the later winning. Secrets are read from files, never
// given here.
type Config struct {
	Environment string `key:"environment" default:"test" doc:"test or production; production refuses the test seed and test keys"`
	Database    string `key:"database" default:"sqlite:data/acquirer.db" doc:"sqlite:PATH or postgres://USER@HOST/DB; of a pair of servers postgres://USER@HOST1,HOST2/DB?target_session_attrs=read-write (docs/runbook.md, fail-over)"`
	Node        int    `key:"node" default:"0" doc:"number of this node, 0 to 255, unique among those that share a database"`
	Seed        string `key:"seed" default:"" doc:"JSON file of merchants, terminals, issuers and wallets to load at start, or demo for the seeded street"`
	Downloads   string `key:"downloads" default:"" doc:"JSON file of what terminals download (CA keys, applications, parameters, contactless limits, black list), laid out as download/builtin.json in the source; what it leaves out is built in, but test keys are not offered in production"`

	Terminals struct {
		Listen         string        `key:"listen" default:"127.0.0.1:8583" doc:"address that terminals connect to"`
		Dialects       string        `key:"dialects" default:"" doc:"more addresses, for terminals that speak another dialect: HOST:PORT=DIALECT, with a name (iso87-ascii, iso87-bcd) or a dialect file, separated by commas; the other settings of terminals hold for them too"`
		TLSCert        string        `key:"tls_cert" default:"" doc:"PEM certificate; with it the listener speaks TLS 1.2 or later only"`
		TLSKey         string        `key:"tls_key" default:"" doc:"PEM private key of the certificate"`
		MaxConnections int           `key:"max_connections" default:"20000" doc:"connections held at once; one more is closed at accept"`
		MaxFrame       int           `key:"max_frame" default:"4096" doc:"longest frame in bytes; a longer one closes the connection before anything is allocated"`
		FrameTimeout   time.Duration `key:"frame_timeout" default:"10s" doc:"from the first byte of a frame to its last"`
		IdleTimeout    time.Duration `key:"idle_timeout" default:"10m" doc:"silence between two frames before the connection is closed"`
		WriteTimeout   time.Duration `key:"write_timeout" default:"10s" doc:"for an answer to leave"`
	} `key:"terminals"`

	Switch struct {
		IssuerTimeout     time.Duration `key:"issuer_timeout" default:"25s" doc:"how long a terminal's transaction waits for its issuer"`
		TimeoutCode       string        `key:"timeout_code" default:"98" doc:"DE 39 when the issuer did not answer: 98 or 68"`
		ReversalNotFound  string        `key:"reversal_not_found" default:"25" doc:"DE 39 for a reversal whose original never came: 25 or 00"`
		WalletPatience    time.Duration `key:"wallet_patience" default:"40s" doc:"how long a terminal waits while the buyer of a payment code types the password; then the order is cancelled"`
		BadMACs           int           `key:"bad_macs" default:"3" doc:"wrong MACs in a row after which the answer demands a new sign-in"`
		Fallback          bool          `key:"fallback" default:"false" doc:"take the stripe of a chip card when the terminal says that the chip failed (DE 22 80, or DE 60.5 = 2)"`
		FallbackCode      string        `key:"fallback_code" default:"45" doc:"DE 39 for the stripe of a chip card: 45 or 57"`
		RefuseReplays     bool          `key:"refuse_chip_replays" default:"false" doc:"refuse a chip whose counter (9F36) is not above the last one seen, with 59; without it that is only noticed"`
		CompletionPercent int           `key:"completion_percent" default:"115" doc:"most that a completion may be of its pre-authorisation"`
		TipPercent        int           `key:"tip_percent" default:"20" doc:"most that a tip may be of its sale"`
		RefundDays        int           `key:"refund_days" default:"180" doc:"how long a sale may be refunded"`
		PreAuthDays       int           `key:"preauth_days" default:"30" doc:"how long a pre-authorisation may be completed or voided"`
		Acquirer          string        `key:"acquirer" default:"48020000" doc:"DE 32, the acquiring institution, 8 to 11 digits"`
		AcquirerName      string        `key:"acquirer_name" default:"" doc:"its name, which stands before its code on reports; at most 40 characters"`
		CutOff            time.Duration `key:"cut_off" default:"23h" doc:"time of day, Beijing, at which the business date of cards advances"`
		WalletCutOff      time.Duration `key:"wallet_cut_off" default:"24h" doc:"and of payments by code; the business date is settled when both have advanced"`
	} `key:"switch"`

	Owed struct {
		Interval    time.Duration `key:"interval" default:"200ms" doc:"how often reversals and advices that are due are looked for"`
		Backoff     time.Duration `key:"backoff" default:"2s" doc:"wait after the first try that was not acknowledged; doubles, with jitter"`
		BackoffMax  time.Duration `key:"backoff_max" default:"5m" doc:"longest wait between two tries"`
		MaxAttempts int           `key:"max_attempts" default:"20" doc:"tries before a reversal or an advice is handed to a person"`
		Concurrency int           `key:"concurrency" default:"8" doc:"reversals and advices in flight towards one issuer or wallet"`
	} `key:"owed"`

	Integrity struct {
		At time.Duration `key:"at" default:"4h10m" doc:"time of day, Beijing, at which the database is read back for damage: its pages by the engine's own check (PostgreSQL needs the extension amcheck for it), rows of journal and ledger by their checksums and, where they are gone, by the tallies"`
	} `key:"integrity"`

	HSM struct {
		Kind           string `key:"kind" default:"software" doc:"software: keys in this process; remote: in a process of their own, acquirer hsm serve --socket; payshield: in devices, hsm.payshield"`
		File           string `key:"file" default:"data/hsm.key" doc:"sealed master key of the software HSM; made by acquirer hsm init"`
		PassphraseFile string `key:"passphrase_file" default:"" doc:"file with the passphrase; without it ACQUIRER_HSM_PASSPHRASE is read"`
		Socket         string `key:"socket" default:"data/hsm/hsm.sock" doc:"where acquirer hsm serve --socket listens, for kind remote"`
		Audit          string `key:"audit" default:"" doc:"log of what is done with keys, for kinds software and payshield; when empty, hsm.file with .audit at its end"`
		Periods        string `key:"periods" default:"TMK=730,TTK=1825,ZMK=730,BDK=1825,KBPK=365,TPK=30,TAK=30,TDK=30,DEK=730,HMAC=1825" doc:"days that a key of each use is good for; then acquirer_hsm_key_expires_seconds falls below zero"`

		PINLimit    int           `key:"pin_limit" default:"20" doc:"PIN blocks of one terminal that hold no PIN, within hsm.pin_window, after which its PINs are refused unseen; 0 counts only"`
		PINLimitKey int           `key:"pin_limit_key" default:"0" doc:"the same under one PIN key; 0 counts only"`
		PINWindow   time.Duration `key:"pin_window" default:"10m" doc:"in which failures are counted together, from the first on"`
		PINLock     time.Duration `key:"pin_lock" default:"15m" doc:"how long a terminal or a key stays locked; 0 until the switch starts again"`

		PayShield struct {
			Devices        string        `key:"devices" default:"" doc:"for kind payshield: host:port of each device, separated by commas; all have the same LMK. Data at rest and look-up tokens stay with the software HSM of hsm.file"`
			HeaderLength   int           `key:"header_length" default:"4" doc:"characters of message header, as the devices are set"`
			Connections    int           `key:"connections" default:"4" doc:"connections to each device"`
			CallsPerSecond int           `key:"calls_per_second" default:"0" doc:"what each device is licensed for; more calls wait in acquirer_payshield_queue. 0 for no limit"`
			Queue          int           `key:"queue" default:"1000" doc:"most calls that wait for one device; one more fails at once"`
			Timeout        time.Duration `key:"timeout" default:"2s" doc:"for one command on one device; then the next device is asked"`
			Probe          time.Duration `key:"probe" default:"5s" doc:"between two health checks of a device"`
			LMK            string        `key:"lmk" default:"" doc:"two digits that select one of several LMKs; empty for the default one"`
			SeparateTypes  bool          `key:"separate_types" default:"false" doc:"the devices enforce key type 002 separation (PCI HSM): TPK 70D, TMK 80D, TEK 30B"`
			TLSCA          string        `key:"tls_ca" default:"" doc:"PEM certificates of who signs the devices' certificates; with it TLS is spoken"`
			TLSCert        string        `key:"tls_cert" default:"" doc:"PEM certificate that the switch shows to the devices"`
			TLSKey         string        `key:"tls_key" default:"" doc:"PEM private key of it"`
		} `key:"payshield"`
	} `key:"hsm"`

	Routing struct {
		BINs           string        `key:"bins" default:"" doc:"BIN table (CSV or JSON); without it the synthetic table of the demo street"`
		Rules          string        `key:"rules" default:"" doc:"routing file (JSON, docs/routing.md): rules, groups of issuers, tariffs, stand-in; without it every card goes to the issuer of the BIN table"`
		Watch          time.Duration `key:"watch" default:"5s" doc:"how often the two files are looked at for a change; 0 reloads them on SIGHUP and acquirer route reload alone"`
		BreakerStreak  int           `key:"breaker_streak" default:"5" doc:"so many requests in a row without an answer open an issuer's breaker"`
		BreakerPercent int           `key:"breaker_percent" default:"50" doc:"as does this part of the requests of one breaker_window"`
		BreakerLeast   int           `key:"breaker_least" default:"20" doc:"which must be at least so many"`
		BreakerWindow  time.Duration `key:"breaker_window" default:"30s" doc:"in which they are counted"`
		BreakerPause   time.Duration `key:"breaker_pause" default:"10s" doc:"how long an open breaker lets nothing through before it sends one request to see"`
	} `key:"routing"`

	Settlement struct {
		Calendar  string        `key:"calendar" default:"" doc:"JSON files with the holidays of more years than the binary knows (2025, 2026), separated by commas; calendar/2026.json in the source shows the layout"`
		OwnFunds  string        `key:"own_funds" default:"0.00" doc:"yuan of our own on the bank account when these books begin, booked once; what D+0 payouts are advanced from, and without which they wait for T+1"`
		Windows   string        `key:"windows" default:"12:00,16:00,20:00,22:30" doc:"times of day, Beijing, at which D+0 merchants are paid what they sold so far; the rest follows with the close of the day, T+1 where that is no later"`
		MinPayout string        `key:"min_payout" default:"0.01" doc:"yuan; a merchant's day that comes to less is carried over"`
		Advance   string        `key:"advance_limit" default:"0.00" doc:"most yuan that one merchant is paid early in a day; more waits for T+1. 0.00 for no limit but our own funds"`
		Credit    string        `key:"credit" default:"" doc:"yuan that the bank lets the merchants' account (1001) go below zero: payouts that are not advanced wait, first due first, until what networks and wallets have paid covers them with it. 0.00 pays with their money alone; unlimited sends what is due whether they have paid or not; empty is 0.00 with settlement.payers, and unlimited without"`
		Payers    string        `key:"payers" default:"" doc:"JSON file of who pays the house, by account and reference on the bank's statement (docs/payouts.md): with it what comes is booked by itself; without one by hand, acquirer settle --received"`
		FastAfter int           `key:"fast_after_days" default:"0" doc:"days from a merchant's first sale before it is paid early (D+0, S0); the rule of 2016 says 90"`
		FastRow   int           `key:"fast_streak_days" default:"0" doc:"days in a row with sales before a merchant is paid early; the rule of 2016 says 30"`
		RiskPPM   int           `key:"risk_ppm" default:"300000" doc:"a merchant of whose sales of 30 days more than this was refunded or charged back, in ppm of the sum, is not paid early (D+0, S0) but T+1; 0 for no such rule"`
		RiskSales int           `key:"risk_sales" default:"30" doc:"and which has had at least so many sales in those days"`
		BankHours string        `key:"bank_hours" default:"08:00-22:50" doc:"when the bank pays S0 at once, Beijing; outside S0 sales wait for T+1. Empty for always"`
		Cooling   time.Duration `key:"cooling" default:"24h" doc:"how long payouts wait after a merchant's settlement account was changed"`
		OldDebt   int           `key:"arrears_days" default:"30" doc:"age of a merchant's debt at which it is moved to arrears; 0 for never"`
		Debt      string        `key:"arrears_over" default:"5000.00" doc:"yuan; a greater debt is moved to arrears at once. 0.00 for never"`
		WalletPPM int           `key:"wallet_ppm" default:"0" doc:"what wallets keep of a payment, in ppm (3800 is 0.38 %); bills that have another fee are differences"`
		RefundFee string        `key:"refund_fee" default:"return_pct" doc:"what of a merchant's fee comes back with a refund: keep, return_pct (the part by rate, by share) or return_all"`
		Bank      string        `key:"bank" default:"" doc:"the payout bank: its URL, or file:DIR for a bank that takes and gives files (docs/payouts.md); without it nothing is paid"`
		Format    string        `key:"bank_format" default:"pain.001" doc:"what orders are in files: pain.001 (ISO 20022) or csv"`
		Holder    string        `key:"account_holder" default:"" doc:"for a bank with files: holder of the account that merchants are paid from"`
		Account   string        `key:"account" default:"" doc:"its number"`
		AtBank    string        `key:"account_bank" default:"" doc:"the bank that keeps it"`
		Callback  string        `key:"callback" default:"" doc:"address on which the bank's callbacks are heard, POST /v1/payout-changed; off when empty"`
		Secret    string        `key:"callback_secret_file" default:"" doc:"file with the secret, 32 or more characters, that the bank signs its callbacks with; callbacks are not heard without it"`
		Timeout   time.Duration `key:"timeout" default:"10s" doc:"for one question to the bank; an order that is not answered in it is asked for, never sent again"`
	} `key:"settlement"`

	Clearing struct {
		Inbox     string `key:"inbox" default:"" doc:"folder where the files of networks, wallets and the bank are put, INBOX/SOURCE/name-with-date; what was read is moved to accepted, or refused with the reason beside it; the daily bills of wallets among clearing.sources are fetched into it"`
		Sources   string `key:"sources" default:"" doc:"issuers and wallets whose files every business date needs, separated by commas: a date is closed after it was compared with them, and what does not match is not paid; empty closes at the cut-off without looking"`
		Age       int    `key:"age" default:"3" doc:"working days that an item which one side lacks waits for a later file before people must decide"`
		FeeLimit  string `key:"fee_limit" default:"0.02" doc:"yuan by which the fees of one record may differ without anybody looking"`
		StopAbove string `key:"stop_above" default:"0.00" doc:"yuan that a date's unresolved differences may come to before it waits for two signatures; 0.00 never waits"`
	} `key:"clearing"`

	Dispute struct {
		Terms string `key:"terms" default:"" doc:"JSON file with the deadlines of networks, in days, by source; docs/clearing.md has the layout and what stands without one"`
		Keep  int    `key:"keep_days" default:"400" doc:"days that card number, chip data and signature of a transaction are kept, sealed, in case it is disputed; while a case runs or a reversal is owed they stay"`
	} `key:"dispute"`

	Admin struct {
		Listen string `key:"listen" default:"127.0.0.1:9583" doc:"/metrics, /healthz, /readyz"`
		Pprof  string `key:"pprof" default:"" doc:"loopback address for net/http/pprof; off when empty"`
	} `key:"admin"`

	Console struct {
		Listen string `key:"listen" default:"127.0.0.1:8080" doc:"the operator's console; loopback only"`
	} `key:"console"`

	Log struct {
		Level  string `key:"level" default:"info" doc:"debug, info, warn or error"`
		Format string `key:"format" default:"json" doc:"json or text"`
		File   string `key:"file" default:"" doc:"log file; standard error when empty"`
	} `key:"log"`

	demo bool // set by acquirer demo
	// Set by acquirer demo --days: dates are closed by hand, and the switch's
	// clock is so far behind that the journal's rows alone say which is open.
	byHand    bool
	clockBack time.Duration
	baseKeys  []merchant.BaseKey // of the seed
	wallets   []walletConfig     // of the seed, or set by acquirer demo
	// Set by acquirer demo: who pays it, where settlement.payers says nothing.
	demoPayers []settlement.Payer
}

// setting is one leaf of Config with its dotted key.
type setting struct {
	key, def, doc string
	kind          reflect.Type
}

// settings walks Config in order.
func settings() []setting {
	var out []setting
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for i := range t.NumField() {
			f := t.Field(i)
			if !f.IsExported() {
				continue
			}
			key := prefix + f.Tag.Get("key")
			if f.Type.Kind() == reflect.Struct {
				walk(f.Type, key+".")
				continue
			}
			out = append(out, setting{key, f.Tag.Get("default"), f.Tag.Get("doc"), f.Type})
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return out
}

// addConfigFlags gives cmd --config and one flag per setting, named like the
// key with dashes: terminals.listen is --terminals-listen. There are so many that
// --help shows only those that most calls need; acquirer config lists them all.
func addConfigFlags(cmd *cobra.Command) {
	cmd.Flags().String("config", "", "configuration file (YAML, TOML or JSON). Every setting of acquirer config is a flag too: terminals.listen is --terminals-listen")
	for _, s := range settings() {
		name := flagName(s.key)
		cmd.Flags().String(name, s.def, s.doc)
		cmd.Flags().Lookup(name).Hidden = s.key != "database" && s.key != "seed"
	}
}

func flagName(key string) string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(key)
}

func envName(key string) string {
	return "ACQUIRER_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// loadConfig reads defaults, file, environment and flags. An unknown key, a
// value of the wrong type or one out of range stops the start and names itself.
func loadConfig(flags *pflag.FlagSet) (Config, error) {
	v := viper.New()
	known := map[string]bool{}
	for _, s := range settings() {
		known[s.key] = true
		v.SetDefault(s.key, s.def)
		if err := v.BindEnv(s.key, envName(s.key)); err != nil {
			return Config{}, err
		}
		if f := flags.Lookup(flagName(s.key)); f != nil {
			if err := v.BindPFlag(s.key, f); err != nil {
				return Config{}, err
			}
		}
	}
	if f := flags.Lookup("config"); f != nil && f.Value.String() != "" {
		v.SetConfigFile(f.Value.String())
		if err := v.ReadInConfig(); err != nil {
			return Config{}, usageError{fmt.Errorf("config %s: %w", f.Value, err)}
		}
		for _, key := range v.AllKeys() {
			if !known[key] {
				return Config{}, usageError{fmt.Errorf("config %s: %s is not a setting; `acquirer config` lists them", f.Value, key)}
			}
		}
	}
	var c Config
	err := v.Unmarshal(&c, func(d *mapstructure.DecoderConfig) {
		d.TagName = "key"
		d.WeaklyTypedInput = true
		d.DecodeHook = mapstructure.StringToTimeDurationHookFunc()
	})
	var wrong *mapstructure.DecodeError
	if errors.As(err, &wrong) {
		return Config{}, usageError{fmt.Errorf("config: %s (%s): %w", wrong.Name(), envName(wrong.Name()), wrong.Unwrap())}
	}
	if err != nil {
		return Config{}, usageError{fmt.Errorf("config: %w", err)}
	}
	return c, c.check()
}

// strangeVariables are the variables of an environment that look like settings
// and are none: a name with a slip in it would go unseen.
func strangeVariables(environ []string) []string {
	known := map[string]bool{"ACQUIRER_HSM_PASSPHRASE": true}
	for _, s := range settings() {
		known[envName(s.key)] = true
	}
	var out []string
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "ACQUIRER_") && !known[name] && !strings.HasPrefix(name, "ACQUIRER_WALLET_KEY_") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// check refuses what would only fail later.
func (c Config) check() error {
	var errs []error
	bad := func(ok bool, key, why string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s (%s): %s", key, envName(key), fmt.Sprintf(why, args...)))
		}
	}
	bad(c.Environment == "test" || c.Environment == "production", "environment", "%q is neither test nor production", c.Environment)
	bad(c.Environment == "test" || c.Seed != "demo", "seed", "the demo street has published keys and is refused in production")
	bad(strings.HasPrefix(c.Database, "sqlite:") || strings.HasPrefix(c.Database, "postgres://") || strings.HasPrefix(c.Database, "postgresql://"), "database", "%q is neither sqlite:PATH nor postgres://...", c.Database)
	bad(c.Node >= 0 && c.Node <= store.MaxNode, "node", "%d is not 0 to %d", c.Node, store.MaxNode)
	bad(c.Terminals.MaxFrame >= 64 && c.Terminals.MaxFrame <= 65535, "terminals.max_frame", "%d is not 64 to 65535 bytes", c.Terminals.MaxFrame)
	bad(c.Terminals.MaxConnections > 0, "terminals.max_connections", "must be at least 1")
	_, err := parseDialects(c.Terminals.Dialects)
	bad(err == nil, "terminals.dialects", "%v", err)
	bad((c.Terminals.TLSCert == "") == (c.Terminals.TLSKey == ""), "terminals.tls_cert", "certificate and key go together")
	bad(c.Terminals.FrameTimeout > 0 && c.Terminals.IdleTimeout > 0 && c.Terminals.WriteTimeout > 0, "terminals.frame_timeout", "deadlines must be above zero")
	bad(c.Switch.IssuerTimeout > 0, "switch.issuer_timeout", "must be above zero")
	bad(c.Switch.TimeoutCode == "98" || c.Switch.TimeoutCode == "68", "switch.timeout_code", "%q is neither 98 nor 68", c.Switch.TimeoutCode)
	bad(c.Switch.ReversalNotFound == "25" || c.Switch.ReversalNotFound == "00", "switch.reversal_not_found", "%q is neither 25 nor 00", c.Switch.ReversalNotFound)
	bad(c.Switch.FallbackCode == "45" || c.Switch.FallbackCode == "57", "switch.fallback_code", "%q is neither 45 nor 57", c.Switch.FallbackCode)
	bad(c.Switch.CompletionPercent >= 100 && c.Switch.CompletionPercent <= 200, "switch.completion_percent", "%d is not 100 to 200", c.Switch.CompletionPercent)
	bad(c.Switch.TipPercent >= 1 && c.Switch.TipPercent <= 100, "switch.tip_percent", "%d is not 1 to 100", c.Switch.TipPercent)
	bad(c.Dispute.Keep >= max(c.Switch.RefundDays, c.Switch.PreAuthDays), "dispute.keep_days", "must not be below switch.refund_days and switch.preauth_days: what follows a sale needs its card")
	bad(c.Switch.BadMACs >= 1 && c.Switch.RefundDays >= 1 && c.Switch.PreAuthDays >= 1 && c.Switch.PreAuthDays <= 300 && c.Switch.WalletPatience > 0, "switch.bad_macs", "counts, days (pre-authorisation up to 300) and patience must be above zero")
	bad(c.Routing.Watch >= 0, "routing.watch", "must not be below zero")
	err = c.breaker().Check()
	bad(err == nil, "routing.breaker_streak", "%v", err)
	bad(len(c.Switch.Acquirer) >= 8 && len(c.Switch.Acquirer) <= 11 && strings.Trim(c.Switch.Acquirer, "0123456789") == "", "switch.acquirer", "%q is not 8 to 11 digits", c.Switch.Acquirer)
	bad(utf8.ValidString(c.Switch.AcquirerName) && utf8.RuneCountInString(c.Switch.AcquirerName) <= 40 && !strings.ContainsFunc(c.Switch.AcquirerName, unicode.IsControl), "switch.acquirer_name", "%q is not at most 40 characters of text on one line", c.Switch.AcquirerName)
	bad(c.Switch.CutOff >= 0 && c.Switch.CutOff <= 24*time.Hour, "switch.cut_off", "%s is not a time of day", c.Switch.CutOff)
	bad(c.Integrity.At >= 0 && c.Integrity.At < 24*time.Hour, "integrity.at", "%s is not a time of day", c.Integrity.At)
	bad(c.Switch.WalletCutOff >= 0 && c.Switch.WalletCutOff <= 24*time.Hour, "switch.wallet_cut_off", "%s is not a time of day", c.Switch.WalletCutOff)
	bad(c.Settlement.RefundFee == "keep" || c.Settlement.RefundFee == "return_pct" || c.Settlement.RefundFee == "return_all", "settlement.refund_fee", "%q is none of keep, return_pct, return_all", c.Settlement.RefundFee)
	bad(c.Owed.Interval > 0 && c.Owed.Backoff > 0 && c.Owed.BackoffMax >= c.Owed.Backoff && c.Owed.MaxAttempts > 0 && c.Owed.Concurrency > 0, "owed.backoff", "intervals and counts must be above zero, and backoff_max not below backoff")
	own, err := money.Parse(c.Settlement.OwnFunds)
	bad(err == nil && own >= 0, "settlement.own_funds", "%q is not an amount in yuan like 100000.00", c.Settlement.OwnFunds)
	_, err = money.Parse(c.Clearing.FeeLimit)
	bad(err == nil, "clearing.fee_limit", "%q is not an amount in yuan like 0.02", c.Clearing.FeeLimit)
	_, err = money.Parse(c.Clearing.StopAbove)
	bad(err == nil, "clearing.stop_above", "%q is not an amount in yuan like 1000.00", c.Clearing.StopAbove)
	bad(c.Clearing.Age >= 0 && c.Clearing.Age <= 60, "clearing.age", "must be 0 to 60 working days")
	for key, text := range map[string]string{"min_payout": c.Settlement.MinPayout, "advance_limit": c.Settlement.Advance, "arrears_over": c.Settlement.Debt} {
		amount, err := money.Parse(text)
		bad(err == nil && amount >= 0, "settlement."+key, "%q is not an amount in yuan like 100.00", text)
	}
	if c.Settlement.Credit != "" && c.Settlement.Credit != unlimited {
		credit, err := money.Parse(c.Settlement.Credit)
		bad(err == nil && credit >= 0, "settlement.credit", "%q is neither empty, nor unlimited, nor an amount in yuan like 100000.00", c.Settlement.Credit)
	}
	bad(c.Settlement.FastAfter >= 0 && c.Settlement.FastRow >= 0 && c.Settlement.OldDebt >= 0 && c.Settlement.Cooling >= 0, "settlement.fast_after_days", "days and the cooling must not be below zero")
	bad(c.Settlement.RiskPPM >= 0 && c.Settlement.RiskPPM <= 1_000_000 && c.Settlement.RiskSales >= 0, "settlement.risk_ppm", "must be 0 to 1000000, and risk_sales not below zero")
	_, _, err = parseHours(c.Settlement.BankHours)
	bad(err == nil || c.Settlement.BankHours == "", "settlement.bank_hours", "%v", err)
	bad(c.Settlement.WalletPPM >= 0 && c.Settlement.WalletPPM <= 100_000, "settlement.wallet_ppm", "must be 0 to 100000")
	_, err = parseWindows(c.Settlement.Windows)
	bad(err == nil, "settlement.windows", "%v", err)
	bad(c.Settlement.Timeout > 0, "settlement.timeout", "must be above zero")
	ps := c.HSM.PayShield
	bad(c.HSM.Kind == "software" || c.HSM.Kind == "remote" || c.HSM.Kind == "payshield", "hsm.kind", "%q is none of software, remote, payshield", c.HSM.Kind)
	bad(c.HSM.Kind != "payshield" || len(splitList(ps.Devices)) > 0, "hsm.payshield.devices", "kind payshield needs the host:port of a device")
	bad(ps.HeaderLength >= 0 && ps.HeaderLength <= 255 && ps.Connections >= 1 && ps.CallsPerSecond >= 0 && ps.Queue >= 1 && ps.Timeout > 0 && ps.Probe > 0, "hsm.payshield.header_length", "header 0 to 255, connections, queue and times above zero, calls_per_second not below")
	bad((ps.TLSCert == "") == (ps.TLSKey == "") && (ps.TLSCert == "" || ps.TLSCA != ""), "hsm.payshield.tls_cert", "certificate and key go together, and with tls_ca")
	bad(c.HSM.Kind != "remote" || c.HSM.Socket != "", "hsm.socket", "kind remote needs the socket of acquirer hsm serve")
	_, err = parsePeriods(c.HSM.Periods)
	bad(err == nil, "hsm.periods", "%v", err)
	bad(c.Log.Format == "json" || c.Log.Format == "text", "log.format", "%q is neither json nor text", c.Log.Format)
	if err := errors.Join(errs...); err != nil {
		return usageError{fmt.Errorf("config: %w", err)}
	}
	return nil
}

// breaker is when an issuer's breaker opens and closes.
func (c Config) breaker() routing.BreakerConfig {
	r := c.Routing
	return routing.BreakerConfig{Streak: r.BreakerStreak, Percent: r.BreakerPercent, Least: r.BreakerLeast, Window: r.BreakerWindow, Pause: r.BreakerPause}
}

// passphrase reads the HSM's passphrase from its file or the environment.
func (c Config) passphrase() ([]byte, error) {
	if c.HSM.PassphraseFile != "" {
		b, err := os.ReadFile(c.HSM.PassphraseFile)
		if err != nil {
			return nil, fmt.Errorf("hsm.passphrase_file: %w", err)
		}
		return []byte(strings.TrimRight(string(b), "\r\n")), nil
	}
	if p := os.Getenv("ACQUIRER_HSM_PASSPHRASE"); p != "" {
		return []byte(p), nil
	}
	return nil, usageError{errors.New("no HSM passphrase: set hsm.passphrase_file or ACQUIRER_HSM_PASSPHRASE")}
}

func newConfigCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "List every setting with its meaning, or check a configuration",
		Example: `  acquirer config                     # every setting
  acquirer config --check --config acquirer.yaml
  acquirer config --markdown          # docs/configuration.md`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	check := cmd.Flags().Bool("check", false, "load the configuration, say whether it is good, change nothing")
	markdown := cmd.Flags().Bool("markdown", false, "print docs/configuration.md")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		out := cmd.OutOrStdout()
		if *markdown {
			_, err := fmt.Fprint(out, configMarkdown())
			return err
		}
		if *check {
			if _, err := loadConfig(cmd.Flags()); err != nil {
				return err
			}
			for _, name := range strangeVariables(os.Environ()) {
				fmt.Fprintf(cmd.ErrOrStderr(), "acquirer: %s is set and is the variable of no setting\n", name)
			}
			_, err := fmt.Fprintln(out, "configuration is good")
			return err
		}
		for _, s := range settings() {
			if _, err := fmt.Fprintf(out, "%-30s %-26q %s\n", s.key, s.def, s.doc); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func configMarkdown() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Printed by ` + "`acquirer config --markdown`" + `; a test keeps this page equal to the binary.

A value comes from its default, then the file given with ` + "`--config`" + ` (YAML, TOML or JSON; nested by the dots),
then the environment, then the flag, the later winning. Secrets are read from files or the environment only.

| setting | default | variable | meaning |
|---|---|---|---|
`)
	for _, s := range settings() {
		fmt.Fprintf(&b, "| `%s` | `%s` | `%s` | %s |\n", s.key, s.def, envName(s.key), s.doc)
	}
	b.WriteString("\nThe flag of a setting is its key with dashes: `terminals.listen` is `--terminals-listen`.\n" +
		"`ACQUIRER_HSM_PASSPHRASE` holds the HSM's passphrase when `hsm.passphrase_file` is not set.\n")
	return b.String()
}
