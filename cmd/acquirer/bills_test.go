package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"acquirer/calendar"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/settlement/reconcile"
	"acquirer/simulate/terminal"
	"acquirer/simulate/wallet"
)

// The morning after, each wallet's bill is in the inbox, once, and what the
// reconciliation makes of it is what was paid.
func TestBillsComeIntoTheInbox(t *testing.T) {
	inbox := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		pipe := simwallet.NewPipe()
		s, err := simwallet.Serve(pipe, simwallet.Config{})
		if err != nil {
			t.Fatal(err)
		}
		v := &house{wallets: map[string]*wallet.Wallet{}}
		v.cfg.Clearing.Inbox, v.cfg.Clearing.Sources = inbox, "north, wechat, alipay, unionpay-qr"
		day := calendar.DateOf(time.Now())
		for i, name := range routing.Wallets {
			v.wallets[name], err = wallet.New(wallet.Config{Name: name, URL: strings.Replace(s.URL(name), s.Addr(), "wallets", 1), Wire: simwallet.TestWire(name, wallet.RSA), Dial: pipe.Dial})
			if err != nil {
				t.Fatal(err)
			}
			code, err := routing.ParsePayCode(terminal.PayCode(name, i))
			if err != nil {
				t.Fatal(err)
			}
			o := walletOrder
			o.Made = time.Now()
			if r, err := v.wallets[name].Pay(t.Context(), wallet.Payment{Order: o, Code: code}); err != nil || r.State != wallet.Paid {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		files := func() (all []string) {
			found, err := filepath.Glob(filepath.Join(inbox, "*", "*"+day.String()+"*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				all = append(all, filepath.Base(f))
			}
			slices.Sort(all)
			return all
		}
		fetch := func(at time.Time, want ...string) {
			t.Helper()
			time.Sleep(time.Until(at))
			if err := v.fetchBills(t.Context(), time.Now()); err != nil {
				t.Error(err)
			}
			if got := files(); !slices.Equal(got, want) {
				t.Errorf("at %s the inbox has %v, want %v", at, got, want)
			}
		}
		a, u, w := "alipay-"+day.String()+".bill", "unionpay-qr-"+day.String()+".bill", "wechat-"+day.String()+".bill"
		morning := day.AddDays(1).Time()
		fetch(morning.Add(8 * time.Hour))
		fetch(morning.Add(9*time.Hour), a)
		// One that has been taken away, read or refused, is not fetched again.
		if err := os.MkdirAll(filepath.Join(inbox, "refused"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(inbox, "alipay", a), filepath.Join(inbox, "refused", a)); err != nil {
			t.Fatal(err)
		}
		fetch(morning.Add(10*time.Hour), a, u, w)
		asked := len(s.Orders())
		fetch(morning.Add(11*time.Hour), a, u, w)
		if len(s.Orders()) != asked {
			t.Error("something was ordered")
		}
		// The day after that nothing was paid, and that is said.
		none := filepath.Join(inbox, "wechat", "wechat-"+day.AddDays(1).String()+reconcile.NoBill)
		time.Sleep(24 * time.Hour)
		if err := v.fetchBills(t.Context(), time.Now()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(none); err != nil {
			t.Error(err)
		}
		// A wallet that is closed is tried again, and keeps nothing back.
		if err := s.SetWeather(simwallet.Weather{Closed: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if err := v.fetchBills(t.Context(), time.Now()); err == nil || !strings.Contains(err.Error(), "wechat") {
			t.Errorf("closed: %v", err)
		}
		if rest, err := filepath.Glob(filepath.Join(inbox, "*", ".*")); err != nil || len(rest) != 0 {
			t.Errorf("left behind: %v, %v", rest, err)
		}
		for _, way := range v.wallets {
			way.Close()
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})

	bill := func(name string) string {
		found, err := filepath.Glob(filepath.Join(inbox, "*", name+"*.bill"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%v, %v", found, err)
		}
		return found[0]
	}
	for _, name := range routing.Wallets {
		out, text, code := call(t, newBillCmd(), "--wallet", name, "--file", bill(name), "--json")
		if code != 0 || !strings.Contains(out, `"kind":"pay","order":"R1"`) || !strings.Contains(out, `"amount":"12.34","fee":"0.02"`) {
			t.Errorf("%s: exit %d, %s %s", name, code, out, text)
		}
		if out, text, code := call(t, newBillCmd(), "--wallet", name, "--file", bill(name), "--date", "2020-01-02"); code != 1 || out != "" || !strings.Contains(text, "the bill of 2020-01-02 is wanted") {
			t.Errorf("%s of another day: exit %d, %s %s", name, code, out, text)
		}
	}
	damaged := filepath.Join(inbox, "damaged")
	whole, err := os.ReadFile(bill("unionpay-qr"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(damaged, []byte(strings.Replace(string(whole), "|1234|2", "|12.34|2", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, text, code := call(t, newBillCmd(), "--wallet", "unionpay-qr", "--file", damaged); code != 1 || out != "" || !strings.Contains(text, "line 2, column 10") {
		t.Errorf("damaged: exit %d, %s %s", code, out, text)
	}
	for _, bad := range []string{"--wallet paypal", "--wallet wechat --date never", "--wallet wechat", "--wallet wechat --seed demo", "--wallet wechat --seed " + inbox + "/none"} {
		if _, text, code := call(t, newBillCmd(), strings.Fields(bad)...); code != 2 || text == "" {
			t.Errorf("%s: exit %d, %q", bad, code, text)
		}
	}
	if _, text, code := call(t, newBillCmd(), "--wallet", "wechat", "--file", inbox+"/none"); code != 1 || !strings.Contains(text, "none") {
		t.Errorf("no file: exit %d, %q", code, text)
	}
}

// acquirer bill fetches from the wallet of a seed file.
func TestBillCommandFetches(t *testing.T) {
	folder := keyFiles(t, wallet.RSA)
	base, stop := startWallets(t, "--key-file", "wechat="+folder+"/api.key")
	seed := filepath.Join(folder, "seed.json")
	text := `{"wallets":[{"name":"wechat","url":"` + base + `/wechat","app":"wx1","merchant":"1","key_file":"` + folder + `/api.key","bill_from":"00:01"}]}`
	if err := os.WriteFile(seed, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(folder, "out.bill")
	if _, text, code := call(t, newBillCmd(), "--seed", seed, "--wallet", "wechat", "--date", "2026-01-02", "--out", out); code != 1 || !strings.Contains(text, "no bill of that day") {
		t.Errorf("a day without payments: exit %d, %s", code, text)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a bill that does not exist was kept")
	}
	if _, text, code := call(t, newBillCmd(), "--seed", seed, "--wallet", "alipay"); code != 2 || !strings.Contains(text, "no wallet alipay") {
		t.Errorf("a wallet that is not in the seed: exit %d, %s", code, text)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
