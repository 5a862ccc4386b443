package wallet

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/smx509"
)

// Joined is what all three wallets sign: the parameters sorted by name, k=v,
// joined by &. Empty values and those named in without are left out.
func Joined(params map[string]string, without ...string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(params)) {
		if params[k] == "" || slices.Contains(without, k) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(k + "=" + params[k])
	}
	return b.String()
}

// HMAC signs as WeChat Pay v2 does with sign_type HMAC-SHA256: the joined
// parameters and the key, in upper-case hexadecimal.
type HMAC func(params map[string]string) string

// NewHMAC takes the API key of a merchant, at least 16 characters.
func NewHMAC(key string) (HMAC, error) {
	if len(key) < 16 || !printable(key) {
		return nil, errors.New("wallet: an API key has at least 16 printable characters and no blanks")
	}
	return func(params map[string]string) string {
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(Joined(params, "sign") + "&key=" + key))
		return strings.ToUpper(hex.EncodeToString(h.Sum(nil)))
	}, nil
}

// Signer signs what we say and verifies what the other side says. It prints no
// key.
type Signer struct {
	kind   string
	sign   func(data []byte) ([]byte, error)
	verify func(data, signature []byte) bool
	digest func(data []byte) []byte // of UnionPay's double hash
}

// The kinds of a Signer.
const (
	RSA = "rsa" // PKCS #1 v1.5 with SHA-256: Alipay's RSA2, UnionPay's signMethod 01
	SM2 = "sm2" // GB/T 32918 with SM3, in DER
)

func (s Signer) String() string   { return s.kind }
func (s Signer) GoString() string { return "wallet.Signer(" + s.kind + ")" }

// Format prints the kind under every verb: fmt reads into closures otherwise.
func (s Signer) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.kind) }

// Sign signs data; an error means that nothing can be asked.
func (s Signer) Sign(data []byte) ([]byte, error) { return s.sign(data) }

// Verify reports whether signature is the other side's over data.
func (s Signer) Verify(data, signature []byte) bool { return s.verify(data, signature) }

// Digest is SHA-256 or SM3 of data, whichever the signature uses.
func (s Signer) Digest(data []byte) []byte { return s.digest(data) }

// NewSigner takes our private key and the other side's public key in PEM:
// PKCS #8 or #1, PKIX or a certificate; or the base64 inside alone, as
// Alipay's tool gives it. RSA keys have at least 2048 bits.
func NewSigner(kind, private, public string) (Signer, error) {
	key, err := privateKey(private)
	if err != nil {
		return Signer{}, err
	}
	theirs, err := publicKey(public)
	if err != nil {
		return Signer{}, err
	}
	switch kind {
	case RSA:
		return rsaSigner(key, theirs)
	case SM2:
		return sm2Signer(key, theirs)
	}
	return Signer{}, fmt.Errorf("wallet: signature %.20q is neither %s nor %s", kind, RSA, SM2)
}

func rsaSigner(key, theirs any) (Signer, error) {
	ours, ok := key.(*rsa.PrivateKey)
	if !ok || ours.N.BitLen() < 2048 {
		return Signer{}, errors.New("wallet: our key is not an RSA key of at least 2048 bits")
	}
	pub, ok := theirs.(*rsa.PublicKey)
	if !ok || pub.N.BitLen() < 2048 {
		return Signer{}, errors.New("wallet: the wallet's key is not an RSA key of at least 2048 bits")
	}
	hash := func(data []byte) []byte { h := sha256.Sum256(data); return h[:] }
	return Signer{kind: RSA, digest: hash,
		sign:   func(data []byte) ([]byte, error) { return rsa.SignPKCS1v15(nil, ours, crypto.SHA256, hash(data)) },
		verify: func(data, sig []byte) bool { return rsa.VerifyPKCS1v15(pub, crypto.SHA256, hash(data), sig) == nil },
	}, nil
}

func sm2Signer(key, theirs any) (Signer, error) {
	ours, ok := key.(*sm2.PrivateKey)
	if !ok {
		return Signer{}, errors.New("wallet: our key is not an SM2 key")
	}
	pub, ok := theirs.(*ecdsa.PublicKey)
	if !ok || !sm2.IsSM2PublicKey(pub) {
		return Signer{}, errors.New("wallet: the wallet's key is not an SM2 key")
	}
	return Signer{kind: SM2, digest: func(data []byte) []byte { h := sm3.Sum(data); return h[:] },
		sign:   func(data []byte) ([]byte, error) { return ours.SignWithSM2(rand.Reader, nil, data) },
		verify: func(data, sig []byte) bool { return sm2.VerifyASN1WithSM2(pub, nil, data, sig) },
	}, nil
}

// inPEM is the first block of a PEM, or of bare base64 put into one.
func inPEM(text, bare string) *pem.Block {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "-----BEGIN") {
		text = "-----BEGIN " + bare + "-----\n" + text + "\n-----END " + bare + "-----\n"
	}
	block, _ := pem.Decode([]byte(text + "\n"))
	return block
}

// The texts of keys appear in no error.
func privateKey(text string) (any, error) {
	if block := inPEM(text, "PRIVATE KEY"); block != nil {
		if k, err := smx509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			return k, nil
		}
		if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return k, nil
		}
		if k, err := smx509.ParseSM2PrivateKey(block.Bytes); err == nil {
			return k, nil
		}
	}
	return nil, errors.New("wallet: our key is no private key in PEM (PKCS #8 or #1)")
}

func publicKey(text string) (any, error) {
	if block := inPEM(text, "PUBLIC KEY"); block != nil {
		if block.Type == "CERTIFICATE" {
			if c, err := smx509.ParseCertificate(block.Bytes); err == nil {
				return c.PublicKey, nil
			}
		} else if k, err := smx509.ParsePKIXPublicKey(block.Bytes); err == nil {
			return k, nil
		}
	}
	return nil, errors.New("wallet: the wallet's key is no public key or certificate in PEM")
}
