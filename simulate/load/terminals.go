package load

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"

	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
)

// Device is one terminal of a terminals file.
type Device struct {
	TID     string           `json:"tid"`
	MID     string           `json:"mid"`
	TMK     string           `json:"tmk"` // hex of a TEST key of 16 bytes
	Profile terminal.Profile `json:"profile"`
}

// World returns n terminals of the seeded world with their test keys, the
// first behind the street: simcard.SeedTerminal and simcard.TestTMK.
func World(n int) []Device {
	out := make([]Device, n)
	for i := range out {
		tid, mid := simcard.SeedTerminal(simcard.StreetTerminals + i)
		tmk := simcard.TestTMK(tid)
		out[i] = Device{TID: tid, MID: mid, TMK: hex.EncodeToString(tmk[:])}
	}
	return out
}

// ReadDevices reads a terminals file: a JSON list of Device. It refuses
// members it does not know.
func ReadDevices(path string) ([]Device, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load: terminals file: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var out []Device
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("load: terminals file %s: %w", path, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("load: terminals file %s lists no terminal", path)
	}
	return out, nil
}

// config is the terminal's configuration; the error does not show the key.
func (d *Device) config() (terminal.Config, error) {
	cfg := terminal.Config{TID: d.TID, MID: d.MID, Profile: d.Profile}
	tmk, err := hex.DecodeString(d.TMK)
	if err != nil || len(tmk) != len(cfg.TMK) {
		return cfg, fmt.Errorf("load: terminal %s: tmk is not 32 hex digits", d.TID)
	}
	cfg.TMK = [16]byte(tmk)
	return cfg, nil
}

// CheckAddress refuses an address that is not on this machine, so that a
// mistyped host is never loaded. A name must resolve to loopback addresses
// only.
func CheckAddress(ctx context.Context, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("load: %q is not HOST:PORT", addr)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fmt.Errorf("load: %s: %w", addr, err)
	}
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return fmt.Errorf("load: %s is %s, another machine: a load is a denial of service to whoever did not ask for it; pass --allow-remote if the host is yours", addr, ip)
		}
	}
	return nil
}
